"""Which replicas get traffic, and how a model's traffic is split."""
