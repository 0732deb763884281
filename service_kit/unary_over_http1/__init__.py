"""A server of unary gRPC calls over HTTP/1.1, the protocol of Envoy's clusters without HTTP/2."""
