"""Faults put into real parts; each test names the invariants that have to hold."""
