"""Routes of grpc.health.v1: each service tells its own health.

The name of the service is in the message, so Envoy reads it there as it reads the models' names.
A replica answers for the services that replicas have, for "" and for names that nobody has.
"""

from dataclasses import replace

from envoy_data_plane.envoy.config.route.v3 import Route

from control_plane.topology import MeshTopology
from control_plane.xds.basics import names
from control_plane.xds.routes.route_messages import asks_for, whole_route
from control_plane.xds.routes.route_rules import Rule

_SERVED_BY = {
    names.TRAIN_SERVICE: names.TRAINING,
    names.DATA_SERVICE: names.TRIGGER,
    names.RELOAD_SERVICE: names.CONTROL_PLANE,
}


def health_routes(rule: Rule, topology: MeshTopology) -> list[Route]:
    """Return the routes of a rule for the health service; none of any other rule."""
    if not rule.path.startswith(f"/{names.HEALTH_SERVICE}/"):
        return []
    routes = []
    for service, cluster in _SERVED_BY.items():
        route = whole_route(replace(rule, cluster=cluster), topology, True, False)
        assert route.match is not None
        route.name = f"{route.name} of {service}"
        route.match.dynamic_metadata = [asks_for(service, names.HEALTH_FIELD)]
        routes.append(route)
    return routes
