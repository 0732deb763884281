"""Faults of the training service, its database, its MLflow and its disk, with tiny models."""
