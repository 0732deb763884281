"""The services behind Envoy: their endpoints, health checks and limits."""
