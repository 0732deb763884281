"""Measurements, each one command: `python -m bench.NAME`. They print; nothing here is a test."""
