"""The SQL of this service."""
