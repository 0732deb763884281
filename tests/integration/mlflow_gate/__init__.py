"""A real MLflow behind its gate."""
