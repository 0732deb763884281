"""Parts that benchmarks share: servers under test, measurements, and results."""
