"""Ground of all resources: names, short forms of messages, and encodings."""
