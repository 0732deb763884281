"""The routing table of the mesh: a RouteConfiguration put together from encoded routes.

A change of one model's split sends the routes of all models, and encoding them in Python is slow;
so each route is encoded once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.route.v3 import Route, RouteAction, RouteConfiguration

from control_plane.topology import MeshTopology, ModelTraffic
from control_plane.xds.basics import names
from control_plane.xds.basics.wire import field
from control_plane.xds.routes.early_routes import early_routes, virtual_host
from control_plane.xds.routes.health_routes import health_routes
from control_plane.xds.routes.refusals import refusals
from control_plane.xds.routes.route_messages import compressed_route, model_routes, whole_route
from control_plane.xds.routes.route_rules import RULES, Rule, rules_over_http1


@dataclass(frozen=True)
class EncodedRoute:
    """One route of the table."""

    name: str
    clusters: frozenset[str]
    """Every cluster that it may send a call or a copy to."""

    encoded: bytes

    @classmethod
    def of(cls, route: Route) -> "EncodedRoute":
        """Encode a route."""
        return cls(route.name, _targets(route), bytes(route))


@dataclass(frozen=True)
class RouteTable:
    """Routes, in the order in which Envoy tries them."""

    name: str
    host: bytes
    """The virtual host without its routes, encoded."""

    routes: tuple[EncodedRoute, ...]

    @property
    def targets(self) -> Mapping[str, frozenset[str]]:
        """The clusters that each route leads to, by the route's name."""
        return {route.name: route.clusters for route in self.routes}

    def message(self) -> RouteConfiguration:
        """Return the table as a message."""
        return RouteConfiguration.parse(bytes(self))

    def __bytes__(self) -> bytes:
        """Return the bytes that `message()` would encode to."""
        # Field numbers: RouteConfiguration.name 1, .virtual_hosts 2; VirtualHost.routes 3.
        routes = b"".join(field(3, route.encoded) for route in self.routes)
        return field(1, self.name.encode()) + field(2, self.host + routes)


@dataclass(frozen=True)
class SpecialModels:
    """The models that have routes of their own."""

    models: tuple[ModelTraffic, ...] = ()
    """Ordered by name."""

    some_are_complete: bool = False
    """Not every replica answers for every model, and some do."""


@lru_cache(maxsize=16)
def route_table(topology: MeshTopology, special: SpecialModels, unary: bool) -> RouteTable:
    """Build the table. `unary`: every replica takes unary calls over HTTP/1.1."""
    told_apart = bool(special.models)
    preflight, *others = _early(topology, told_apart)
    routes = [preflight, *_refusals(), *others]
    for rule in rules_over_http1() if unary else RULES:
        for model in special.models:
            if rule.tells(model):
                routes += _of_model(rule, topology, model)
        if told_apart and rule.model_field:
            routes.append(_compressed(rule, topology, special.some_are_complete))
        health = _health(rule, topology)
        routes += health
        reads_message = bool(health or (told_apart and rule.model_field))
        from_complete = special.some_are_complete and rule.asks_about_all_models
        routes.append(_whole(rule, topology, reads_message, from_complete))
    return RouteTable(names.ROUTES, _host(topology), tuple(routes))


@lru_cache(maxsize=4)
def _host(topology: MeshTopology) -> bytes:
    return bytes(virtual_host(topology))


@cache
def _refusals() -> tuple[EncodedRoute, ...]:
    return tuple(map(EncodedRoute.of, refusals()))


@lru_cache(maxsize=4)
def _early(topology: MeshTopology, models_told_apart: bool) -> tuple[EncodedRoute, ...]:
    routes = early_routes(topology, models_told_apart)
    return tuple(map(EncodedRoute.of, routes))


@lru_cache(maxsize=64)
def _whole(
    rule: Rule, topology: MeshTopology, models_told_apart: bool, from_complete: bool
) -> EncodedRoute:
    return EncodedRoute.of(whole_route(rule, topology, models_told_apart, from_complete))


@lru_cache(maxsize=64)
def _health(rule: Rule, topology: MeshTopology) -> tuple[EncodedRoute, ...]:
    return tuple(map(EncodedRoute.of, health_routes(rule, topology)))


@lru_cache(maxsize=64)
def _compressed(rule: Rule, topology: MeshTopology, from_complete: bool) -> EncodedRoute:
    return EncodedRoute.of(compressed_route(rule, topology, from_complete))


@lru_cache(maxsize=1024)
def _of_model(rule: Rule, topology: MeshTopology, model: ModelTraffic) -> tuple[EncodedRoute, ...]:
    return tuple(map(EncodedRoute.of, model_routes(rule, topology, model)))


def _targets(route: Route) -> frozenset[str]:
    action = route.route
    if action is None:
        return frozenset()
    return frozenset({*_answering(action), *(m.cluster for m in action.request_mirror_policies)})


def _answering(action: RouteAction) -> Iterable[str]:
    if action.cluster:
        yield action.cluster
    if action.weighted_clusters:
        yield from (weighted.name for weighted in action.weighted_clusters.clusters)
