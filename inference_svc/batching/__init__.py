"""Microbatching: a bounded queue of texts, and the thread that computes them in batches."""
