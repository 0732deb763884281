"""The roles of PostgreSQL, on a server of their own: roles hold for a whole server."""
