"""Faults put into real parts. Each test file names the fault, and the invariants that must hold."""
