"""What the checks at the doors cost."""
