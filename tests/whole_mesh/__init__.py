"""A whole mesh: starting and stopping it, sending it traffic, killing its parts."""
