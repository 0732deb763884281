"""Faults put into the parts of one whole mesh, Airflow included, while clients call without end."""
