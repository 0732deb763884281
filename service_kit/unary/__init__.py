"""Unary gRPC calls over HTTP/1.1, as Envoy makes them to a cluster without HTTP/2."""
