"""The certificates with which clients reach a mesh by TLS."""
