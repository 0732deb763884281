"""Configures Envoy and changes what the fleet of replicas serves."""
