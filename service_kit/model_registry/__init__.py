"""The model registry in MLflow: reading and changing it, moving aliases, retention."""
