"""The parts prove to each other who they are: real processes with identities."""
