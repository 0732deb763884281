"""The strict check of JSON requests, which Envoy runs before the transcoder reads them."""
