"""Runs in the child process of a job: from the rows to the registered version."""
