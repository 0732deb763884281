"""Fine-tunes, evaluates and publishes challengers."""
