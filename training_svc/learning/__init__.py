"""Fine-tunes, evaluates and exports classifiers; knows nothing of services."""
