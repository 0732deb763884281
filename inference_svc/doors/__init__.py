"""The interfaces that callers and the control plane reach; each module only translates messages."""
