"""What load to make: texts, arrivals, and the search for a rate."""
