"""What this replica serves: slots, the requests on them, and the versions that come next."""
