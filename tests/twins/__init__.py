"""Stand-ins that a test can steer, each behind the real contract."""
