"""The plan of a load: its texts, its arrivals, and the search for a rate."""
