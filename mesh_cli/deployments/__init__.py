"""What the verbs ask of a mesh, wherever it runs."""
