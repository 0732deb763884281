"""How the load generator speaks to the mesh: its own small gRPC and HTTP clients."""
