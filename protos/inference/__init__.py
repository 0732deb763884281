"""Generated from the .proto file beside it: the Open Inference Protocol v2 over gRPC."""
