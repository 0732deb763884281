"""Batches: when rows are sealed into one, where it is kept, and what followed from it."""
