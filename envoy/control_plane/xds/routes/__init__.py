"""Which cluster answers which call."""
