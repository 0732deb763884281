"""A mesh of processes on this machine."""
