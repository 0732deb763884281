"""The sync client; `client.py` here is made from the async one by `make protos`."""
