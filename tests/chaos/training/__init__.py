"""Faults put into the training service, its database, its MLflow and its disk; tiny models."""
