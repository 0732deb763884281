"""Real servers for tests: Envoy, PostgreSQL, MLflow, Airflow and our own services."""
