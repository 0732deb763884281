"""What the sync and the async client share."""
