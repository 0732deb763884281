"""The certificates that Envoy shows to clients: made or given, and renewed before their end."""
