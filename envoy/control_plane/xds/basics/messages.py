"""Short forms of messages that many resources need."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import Address as EnvoyAddress
from envoy_data_plane.envoy.config.core.v3 import (
    AggregatedConfigSource,
    ApiVersion,
    ConfigSource,
    RuntimeFractionalPercent,
    SocketAddress,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent, Percent
from envoy_data_plane.google.protobuf import ListValue, Struct, Value

from control_plane.topology import Address

# The source of resources that the control plane sends over its one aggregated stream.
ADS = ConfigSource(ads=AggregatedConfigSource(), resource_api_version=ApiVersion.V3)


def seconds(value: float) -> timedelta:
    """Return a duration."""
    return timedelta(seconds=value)


def percent(value: float) -> Percent:
    """Return a percentage, 0 to 100."""
    return Percent(value=value)


def always() -> RuntimeFractionalPercent:
    """Return the fraction that stands for all requests."""
    return RuntimeFractionalPercent(default_value=FractionalPercent(numerator=100))


def socket_address(address: Address) -> EnvoyAddress:
    """Return an address to listen on or to connect to."""
    return EnvoyAddress(socket_address=SocketAddress(address=address.host, port_value=address.port))


Json = str | int | Sequence["Json"] | Mapping[str, "Json"]


def struct(fields: Mapping[str, Json]) -> Struct:
    """Return a JSON object."""
    return Struct(fields={name: _value(value) for name, value in fields.items()})


def _value(value: Json) -> Value:
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, Mapping):
        return Value(struct_value=struct(value))
    if isinstance(value, Sequence):
        return Value(list_value=ListValue(values=[_value(item) for item in value]))
    return Value(number_value=float(value))
