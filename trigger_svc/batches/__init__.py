"""Batches: when rows become one, where it is kept, and what became of it."""
