"""Changes what the fleet serves, and keeps the fleet at it."""
