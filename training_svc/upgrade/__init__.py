"""What is done once to versions of earlier releases."""
