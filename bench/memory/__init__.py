"""Memory of a replica by the number of its models."""
