"""Numbers that a replica keeps about its answers and its batches."""
