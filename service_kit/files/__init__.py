"""Files that several parts read and write: noticing changes, writing privately, one at a time."""
