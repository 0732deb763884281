"""What was measured: recorded, summed up, shown."""
