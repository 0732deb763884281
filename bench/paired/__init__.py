"""The comparison of two checkouts: `python -m bench.paired BEFORE AFTER --texts FILE`."""
