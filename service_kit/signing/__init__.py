"""Signatures: keys, signed manifests of versions, signed records in tags of MLflow's models."""
