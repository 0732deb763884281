"""What people see: tables, progress and durations."""
