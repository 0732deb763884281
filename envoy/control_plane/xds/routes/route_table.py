"""A RouteConfiguration, put together from encoded routes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration

from control_plane.xds.basics.wire import field


@dataclass(frozen=True)
class EncodedRoute:
    """One route."""

    name: str
    clusters: frozenset[str]
    """The clusters that it leads to."""

    encoded: bytes

    @classmethod
    def of(cls, route: Route) -> "EncodedRoute":
        """Encode a route."""
        return cls(route.name, _targets(route), bytes(route))


@dataclass(frozen=True)
class RouteTable:
    """Routes in the order in which they are tried."""

    name: str
    host: bytes
    """The virtual host without its routes, encoded."""

    routes: tuple[EncodedRoute, ...]

    @property
    def targets(self) -> Mapping[str, frozenset[str]]:
        """The clusters that each route leads to, by the route's name."""
        return {route.name: route.clusters for route in self.routes}

    def message(self) -> RouteConfiguration:
        """As a message."""
        return RouteConfiguration.parse(bytes(self))

    def __bytes__(self) -> bytes:
        """As the message encodes itself."""
        # Fields: VirtualHost.routes is 3, RouteConfiguration.name is 1, .virtual_hosts is 2.
        routes = b"".join(field(3, route.encoded) for route in self.routes)
        return field(1, self.name.encode()) + field(2, self.host + routes)


def _targets(route: Route) -> frozenset[str]:
    action = route.route
    if action is None:
        return frozenset()
    return frozenset({*_chosen(action), *(m.cluster for m in action.request_mirror_policies)})


def _chosen(action: RouteAction) -> Iterable[str]:
    if action.cluster:
        yield action.cluster
    if action.weighted_clusters:
        yield from (weighted.name for weighted in action.weighted_clusters.clusters)
