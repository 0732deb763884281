"""How Envoy gets its configuration: snapshots, and the ADS stream that sends what changed."""
