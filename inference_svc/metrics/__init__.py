"""The numbers that a replica keeps about itself."""
