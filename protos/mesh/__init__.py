"""The public contract of Champion Mesh (`mesh.v1`) and its client (`mesh.client`)."""
