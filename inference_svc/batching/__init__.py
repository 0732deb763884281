"""Microbatching: a bounded queue of texts, and one thread that computes what waits."""
