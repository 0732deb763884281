"""Progressive delivery: a Challenger earns its traffic by live numbers."""
