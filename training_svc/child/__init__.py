"""The child process of one job, from the rows to the registered version."""
