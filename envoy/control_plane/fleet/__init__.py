"""The inference replicas: where they are, what they serve, and how all of them change together."""
