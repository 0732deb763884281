"""The async client; `make protos` makes the sync one from it."""
