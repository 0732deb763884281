"""Changes the versions that the fleet serves, and repairs replicas that lag behind."""
