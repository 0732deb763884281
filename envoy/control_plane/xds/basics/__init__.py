"""Shared by all resources: names, short forms of messages, and encodings."""
