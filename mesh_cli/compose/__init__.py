"""A mesh in containers, run by Docker Compose."""
