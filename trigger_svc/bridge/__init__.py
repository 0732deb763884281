"""The bridge from sealed batches to Airflow's runs."""
