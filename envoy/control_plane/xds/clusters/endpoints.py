"""Endpoints of a cluster, put together from encoded parts.

A change of one replica sends the endpoints of all replicas, and building and encoding one endpoint
takes half a millisecond in Python; so each address is encoded once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.core.v3 import Metadata
from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from control_plane.topology import Address
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import socket_address, struct
from control_plane.xds.basics.wire import field as wire_field


@dataclass(frozen=True)
class Endpoints:
    """A ClusterLoadAssignment."""

    cluster_name: str
    addresses: tuple[Address, ...]
    serves: Mapping[Address, tuple[str, ...]] = field(default_factory=dict)
    """Models that an address answers for, of those for which not every address does."""

    def message(self) -> ClusterLoadAssignment:
        """Return the endpoints as a message."""
        endpoints = [
            LbEndpoint(endpoint=_endpoint(address), metadata=_metadata(self._models(address)))
            for address in self.addresses
        ]
        return ClusterLoadAssignment(
            cluster_name=self.cluster_name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)]
        )

    def __bytes__(self) -> bytes:
        """Return the bytes that `message()` would encode to."""
        # Field numbers: ClusterLoadAssignment.cluster_name 1, .endpoints 2;
        # LocalityLbEndpoints.lb_endpoints 2; LbEndpoint.metadata 3.
        locality = b"".join(
            wire_field(2, _encoded(address) + _encoded_metadata(self._models(address)))
            for address in self.addresses
        )
        return wire_field(1, self.cluster_name.encode()) + wire_field(2, locality)

    def _models(self, address: Address) -> tuple[str, ...]:
        return self.serves.get(address, ())


def _endpoint(address: Address) -> Endpoint:
    return Endpoint(address=socket_address(address))


@cache
def _encoded(address: Address) -> bytes:
    return bytes(LbEndpoint(endpoint=_endpoint(address)))


def _metadata(models: tuple[str, ...]) -> Metadata | None:
    if not models:
        return None
    return Metadata(filter_metadata={names.SUBSETS: struct({names.SERVES: list(models)})})


@lru_cache(maxsize=256)
def _encoded_metadata(models: tuple[str, ...]) -> bytes:
    metadata = _metadata(models)
    return b"" if metadata is None else wire_field(3, bytes(metadata))
