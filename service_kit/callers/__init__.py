"""Who calls, and what one caller may hold."""
