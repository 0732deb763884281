"""One module for each group of verbs of the `mesh` command."""
