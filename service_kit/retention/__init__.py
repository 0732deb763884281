"""What Airflow and MLflow keep for good unless somebody removes it."""
