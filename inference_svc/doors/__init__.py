"""What callers and the control plane reach: each module translates messages and nothing more."""
