"""Who the parts of the mesh are to each other: certificates with SPIFFE names, over mutual TLS."""
