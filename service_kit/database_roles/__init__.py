"""Who may do what in PostgreSQL: one role for each part, and none of them is a superuser."""
