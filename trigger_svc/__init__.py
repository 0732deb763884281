"""Trigger service: training tables, their outbox, and the bridge to Airflow."""
