"""The model registry in MLflow: what is read and written there, and by which rules."""
