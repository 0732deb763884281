"""What people read and write in a terminal: tables, progress, durations."""
