"""Measurements of large training tables."""
