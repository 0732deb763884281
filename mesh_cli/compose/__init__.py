"""The mesh in containers, run by Docker Compose."""
