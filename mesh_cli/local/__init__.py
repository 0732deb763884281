"""A mesh of processes on this machine; compose/ is its twin in containers."""
