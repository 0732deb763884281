"""A whole mesh, and what tests do with one."""
