"""Reading rows from files and data sets."""
