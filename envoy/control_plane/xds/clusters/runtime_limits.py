"""Limits as values of Envoy's runtime: of the fleet's size and work, and of reset requests.

If the clusters held them, Envoy would build every cluster anew when a replica comes or goes.
"""

from dataclasses import dataclass

from envoy_data_plane.envoy.service.runtime.v3 import Runtime
from envoy_data_plane.google.protobuf import Struct

from control_plane.topology import CALLS_WHILE_PREPARING, Limits
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import struct

# Envoy closes a connection after so many requests if most of them were reset within a second. Its
# own limit of 500 holds other callers up for a tenth of a second.
PREMATURE_RESETS = 100


@dataclass(frozen=True)
class RuntimeLimits:
    """A layer of Envoy's runtime."""

    name: str
    replica_calls: int
    """Calls that may be in flight in each of the clusters of replicas."""

    def layer(self) -> Struct:
        """Return the keys and values of the layer."""
        calls = {
            f"circuit_breakers.{name}.default.max_requests": self.replica_calls
            for name in names.REPLICAS
        }
        return struct({"overload.premature_reset_total_stream_count": PREMATURE_RESETS, **calls})

    def __bytes__(self) -> bytes:
        """Return the encoded resource."""
        return bytes(Runtime(name=self.name, layer=self.layer()))


def runtime_limits(limits: Limits, replicas: int, preparing: bool) -> RuntimeLimits:
    """Return the limits of a fleet; `preparing`: replicas prepare a version."""
    calls = max(limits.calls_at_least, limits.calls_per_replica * replicas)
    if preparing:
        calls *= CALLS_WHILE_PREPARING
    return RuntimeLimits(names.RUNTIME, calls)
