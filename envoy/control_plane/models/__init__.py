"""The registered models, as MLflow knows them."""
