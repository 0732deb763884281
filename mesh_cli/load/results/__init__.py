"""The result of a load: recorded, summed up, shown."""
