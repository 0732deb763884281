"""A small certificate authority, for a mesh without another one, and the files for Envoy."""
