"""What callers of DataService ask for: their rows are checked, added, imported and counted."""
