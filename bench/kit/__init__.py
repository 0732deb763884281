"""What the benchmarks share: servers under test, measuring, and keeping results."""
