"""What every change of a model needs: a lock, an answer to remember, and the moment it happened."""
