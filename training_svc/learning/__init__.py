"""Fine-tuning and judging a classifier; knows nothing of services."""
