"""Envoy's configuration on its way: snapshots, and the ADS stream that sends the changes."""
