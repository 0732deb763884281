"""Endpoints of a cluster, put together from encoded parts.

A change of one replica sends the endpoints of all replicas, and building and encoding one endpoint
takes half a millisecond in Python; so each address is encoded once.
"""

from dataclasses import dataclass
from functools import cache

from envoy_data_plane.envoy.config.endpoint.v3 import (
    ClusterLoadAssignment,
    Endpoint,
    LbEndpoint,
    LocalityLbEndpoints,
)

from control_plane.topology import Address
from control_plane.xds.basics.messages import socket_address
from control_plane.xds.basics.wire import field


@dataclass(frozen=True)
class Endpoints:
    """A ClusterLoadAssignment."""

    cluster_name: str
    addresses: tuple[Address, ...]

    def message(self) -> ClusterLoadAssignment:
        """Return the endpoints as a message."""
        endpoints = [LbEndpoint(endpoint=_endpoint(address)) for address in self.addresses]
        return ClusterLoadAssignment(
            cluster_name=self.cluster_name, endpoints=[LocalityLbEndpoints(lb_endpoints=endpoints)]
        )

    def __bytes__(self) -> bytes:
        """Return the bytes that `message()` would encode to."""
        # Field numbers: ClusterLoadAssignment.cluster_name 1, .endpoints 2;
        # LocalityLbEndpoints.lb_endpoints 2.
        locality = b"".join(field(2, _encoded(address)) for address in self.addresses)
        return field(1, self.cluster_name.encode()) + field(2, locality)


def _endpoint(address: Address) -> Endpoint:
    return Endpoint(address=socket_address(address))


@cache
def _encoded(address: Address) -> bytes:
    return bytes(LbEndpoint(endpoint=_endpoint(address)))
