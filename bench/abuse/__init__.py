"""What strangers may send, beside honest clients."""
