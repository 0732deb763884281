"""Keys, manifests and signed records."""
