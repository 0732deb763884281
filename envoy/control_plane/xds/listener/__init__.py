"""Where clients come in: Envoy's listener, its filters, its own answers and its access log."""
