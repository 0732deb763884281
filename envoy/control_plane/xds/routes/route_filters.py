"""Which filters a route switches on or off, and what it tells them."""

from envoy_data_plane.envoy.config.route.v3 import (
    FilterConfig,
)
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute
from envoy_data_plane.google.protobuf import Any

from control_plane.xds.basics import names

# Switches on a filter that is disabled elsewhere.
ON = Any.pack(FilterConfig(config=Any()))
OFF = Any.pack(FilterConfig(disabled=True))


def bounded(max_body_bytes: int) -> dict[str, Any]:
    """Limit a body to this size, bytes."""
    buffer = BufferPerRoute(buffer=Buffer(max_request_bytes=max_body_bytes))
    return {names.BUFFER: Any.pack(buffer)}


def model_filters() -> dict[str, Any]:
    """Switch on the filters that find out which model, or which health, a call asks for."""
    return {names.FIRST_MESSAGE: ON, names.FIELD_EXTRACTION: ON, names.LUA: ON}
