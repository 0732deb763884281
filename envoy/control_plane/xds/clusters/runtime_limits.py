"""Limits that follow what the fleet is and does, as values of Envoy's runtime.

In the clusters themselves they would have every cluster built anew when a replica comes or goes.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.service.runtime.v3 import Runtime
from envoy_data_plane.google.protobuf import Struct

from control_plane.topology import CALLS_WHILE_PREPARING, Limits
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import struct


@dataclass(frozen=True)
class RuntimeLimits:
    """A layer of the runtime."""

    name: str
    replica_calls: int
    """Calls that may be in flight in each of the clusters of replicas."""

    def layer(self) -> Struct:
        """Keys and values."""
        return struct(
            {
                f"circuit_breakers.{name}.default.max_requests": self.replica_calls
                for name in names.REPLICAS
            }
        )

    def __bytes__(self) -> bytes:
        """As a resource."""
        return bytes(Runtime(name=self.name, layer=self.layer()))


def runtime_limits(limits: Limits, replicas: int, preparing: bool) -> RuntimeLimits:
    """The limits of a fleet of that many replicas, which may be preparing a version."""
    calls = max(limits.calls_at_least, limits.calls_per_replica * replicas)
    if preparing:
        calls *= CALLS_WHILE_PREPARING
    return RuntimeLimits(names.RUNTIME, calls)
