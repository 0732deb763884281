"""A snapshot as a file that Envoy starts from, with everything in it."""

from envoy_data_plane.envoy.config.bootstrap.v3 import Admin, Bootstrap, BootstrapStaticResources
from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.core.v3 import Node
from envoy_data_plane.envoy.config.overload.v3 import OverloadManager, ResourceMonitor
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections.v3 import (
    DownstreamConnectionsConfig,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import MAX_CLIENT_CONNECTIONS
from control_plane.xds.clusters import with_endpoints
from control_plane.xds.listener import route_name, with_routes
from control_plane.xds.messages import socket_address
from control_plane.xds.snapshot import Snapshot

NODE_CLUSTER = "mesh"


def bootstrap(snapshot: Snapshot, max_connections: int = MAX_CLIENT_CONNECTIONS) -> bytes:
    """Return the static bootstrap as protobuf bytes (a `.pb` file for `envoy --config-path`)."""
    endpoints = {item.cluster_name: item for item in snapshot.endpoints}
    routes = {item.name: item for item in snapshot.routes}

    def static(cluster: Cluster) -> Cluster:
        assignment = endpoints.get(cluster.name)
        return with_endpoints(cluster, assignment) if assignment else cluster

    resources = BootstrapStaticResources(
        clusters=[static(cluster) for cluster in snapshot.clusters],
        listeners=[with_routes(item, routes[route_name(item)]) for item in snapshot.listeners],
    )
    message = Bootstrap(
        node=Node(id=snapshot.node_id, cluster=NODE_CLUSTER),
        admin=Admin(address=socket_address(snapshot.admin)),
        static_resources=resources,
        overload_manager=OverloadManager(resource_monitors=[_connections(max_connections)]),
    )
    return bytes(message)


def _connections(limit: int) -> ResourceMonitor:
    return ResourceMonitor(
        name="envoy.resource_monitors.global_downstream_max_connections",
        typed_config=Any.pack(DownstreamConnectionsConfig(max_active_downstream_connections=limit)),
    )
