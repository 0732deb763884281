"""What trainings cost: on a large table, and beside one another."""
