"""Removes a model: its jobs, rows, versions, and what replicas hold of it."""
