"""Which parts may call which gRPC services, when the parts have identities.

Envoy alone brings calls of clients. What is in nobody's row is refused.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from service_kit.errors import PermissionDenied
from service_kit.identities.names import CONTROL_PLANE, ENVOY, part_of, spiffe_id

ADMITTED: Mapping[str, frozenset[str]] = {
    "mesh.v1.PredictService": frozenset({ENVOY}),
    "inference.GRPCInferenceService": frozenset({ENVOY}),
    "mesh.v1.ReplicaService": frozenset({CONTROL_PLANE}),
    "mesh.v1.TrainService": frozenset({ENVOY, CONTROL_PLANE}),
    "mesh.v1.DataService": frozenset({ENVOY}),
    "mesh.v1.ModelRowsService": frozenset({CONTROL_PLANE}),
    "mesh.v1.ReloadService": frozenset({ENVOY}),
    "envoy.service.discovery.v3.AggregatedDiscoveryService": frozenset({ENVOY}),
    "grpc.health.v1.Health": frozenset({ENVOY, CONTROL_PLANE}),
    "grpc.reflection.v1.ServerReflection": frozenset({ENVOY}),
    "grpc.reflection.v1alpha.ServerReflection": frozenset({ENVOY}),
}
# Services that a part may ask of itself: the health check of a container is a process beside it.
_OF_ITSELF = ("grpc.health.v1.Health",)


class Admission:
    """Checks the SPIFFE id in the certificate of the peer, which TLS has verified."""

    def __init__(self, own_part: str) -> None:
        self._own = own_part

    def parts(self, method: str) -> frozenset[str]:
        """Return the parts that may call a method, `/service/method`."""
        service = method.removeprefix("/").rpartition("/")[0]
        admitted = ADMITTED.get(service, frozenset())
        return admitted | {self._own} if service in _OF_ITSELF else admitted

    def guarded(self, method: str, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler of a method that raises PermissionDenied for all other parts."""
        parts = self.parts(method)

        @functools.wraps(behaviour)
        def call(request: Any, context: Any) -> Any:
            check(peer_part(context), parts, method)
            return behaviour(request, context)

        return call


def peer_part(context: Any) -> str:
    """Return the part that calls, as the certificate says; "" when it is none of this mesh."""
    return part_of(
        uri.decode(errors="replace") for uri in context.auth_context().get("peer_uri", ())
    )


def check(part: str, admitted: frozenset[str], what: str) -> None:
    """Raise PermissionDenied when a part is not among those admitted."""
    if part not in admitted:
        named = ", ".join(sorted(map(spiffe_id, admitted))) or "nobody"
        caller = spiffe_id(part) if part else "a peer without a name of this mesh"
        raise PermissionDenied(f"{caller[:200]} may not call {what}; it admits {named}")
