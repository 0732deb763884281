"""The state that Envoy should have: immutable, and never inconsistent."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from envoy_data_plane.envoy.config.cluster.v3 import Cluster, ClusterDiscoveryType
from envoy_data_plane.envoy.config.listener.v3 import Listener

from control_plane.topology import Address
from control_plane.xds.access.token_check import Extension
from control_plane.xds.clusters.endpoints import Endpoints
from control_plane.xds.clusters.runtime_limits import RuntimeLimits
from control_plane.xds.listener.listener import extension_names, route_name
from control_plane.xds.routes.route_table import RouteTable
from control_plane.xds.stream.message_cache import once_for_each


class InconsistentSnapshot(ValueError):
    """The resources of a snapshot do not fit together."""


@dataclass(frozen=True)
class Snapshot:
    """Every resource of one Envoy.

    Making one raises InconsistentSnapshot when a resource names another one that is not there.
    """

    clusters: tuple[Cluster, ...]
    endpoints: tuple[Endpoints, ...]
    listeners: tuple[Listener, ...]
    routes: tuple[RouteTable, ...]
    runtime: RuntimeLimits
    node_id: str
    admin: Address
    extensions: tuple[Extension, ...] = ()

    def __post_init__(self) -> None:
        clusters = _unique("cluster", [cluster.name for cluster in self.clusters])
        endpoints = _unique("endpoints", [item.cluster_name for item in self.endpoints])
        routes = _unique("routes", [item.name for item in self.routes])
        _unique("listener", [item.name for item in self.listeners])
        discovered = {c.name for c in self.clusters if c.type == ClusterDiscoveryType.EDS}
        _same("endpoints", endpoints, discovered)
        _same("routes", routes, {_route_name(item) for item in self.listeners})
        extensions = _unique("extension", [item.name for item in self.extensions])
        asked_for = frozenset[str]().union(*map(_extension_names, self.listeners))
        _same("extensions", extensions, asked_for)
        for configuration in self.routes:
            for route, targets in configuration.targets.items():
                if missing := targets - clusters:
                    raise InconsistentSnapshot(
                        f"route {route} leads to unknown cluster {', '.join(sorted(missing))}"
                    )


def _unique(kind: str, names: Sequence[str]) -> frozenset[str]:
    unique = frozenset(names)
    if len(unique) < len(names):
        raise InconsistentSnapshot(f"two {kind} resources share a name: {sorted(names)}")
    return unique


def _same(kind: str, given: Iterable[str], referenced: Iterable[str]) -> None:
    if missing := set(referenced) - set(given):
        raise InconsistentSnapshot(f"{kind} are missing: {', '.join(sorted(missing))}")
    if unused := set(given) - set(referenced):
        raise InconsistentSnapshot(f"nobody asks for {kind} {', '.join(sorted(unused))}")


_route_name = once_for_each(route_name)
_extension_names = once_for_each(extension_names)
