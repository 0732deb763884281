"""The `mesh` command: runs the whole system, as processes or containers, and calls it."""
