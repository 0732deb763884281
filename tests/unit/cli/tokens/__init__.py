"""Tests of mesh_cli/tokens."""
