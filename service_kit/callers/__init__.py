"""Who calls a service, and with which models the caller may work."""
