"""What the mesh's own tokens are: who makes them, for whom, and how they are signed."""

ISSUER = AUDIENCE = "champion-mesh"
ALGORITHM = "EdDSA"
