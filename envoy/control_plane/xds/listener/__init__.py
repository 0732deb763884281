"""The side of the clients: Envoy's listener, its filters, its own error answers, its access log."""
