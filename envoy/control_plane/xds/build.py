"""The pure function from the description of the mesh to Envoy's resources."""

from envoy_data_plane.envoy.config.cluster.v3 import Cluster

from control_plane.topology import Address, MeshTopology
from control_plane.xds import names
from control_plane.xds.clusters import (
    load_assignment,
    replica_cluster,
    replica_http_cluster,
    service_cluster,
)
from control_plane.xds.listener import listener
from control_plane.xds.routes import route_configuration
from control_plane.xds.snapshot import Snapshot

LOOPBACK = "127.0.0.1"


def build_snapshot(topology: MeshTopology) -> Snapshot:
    """Build every resource. Equal descriptions give equal bytes."""
    return Snapshot(
        clusters=_clusters(topology),
        endpoints=(load_assignment(names.CHAMPION, topology.replicas),),
        listeners=(listener(topology),),
        routes=(route_configuration(topology),),
        node_id=topology.node_id,
        admin=Address(LOOPBACK, topology.admin_port),
    )


def _clusters(topology: MeshTopology) -> tuple[Cluster, ...]:
    limits = topology.limits
    replica_calls = max(1, len(topology.replicas)) * limits.calls_per_replica
    services = (
        (names.TRAINING, topology.training, names.TRAIN_SERVICE),
        (names.TRIGGER, topology.trigger, names.DATA_SERVICE),
        (names.CONTROL_PLANE, topology.control_plane, names.RELOAD_SERVICE),
    )
    clusters = [replica_cluster(names.CHAMPION, names.PREDICT_SERVICE, replica_calls)]
    if topology.replicas_http:
        clusters.append(
            replica_http_cluster(names.CHAMPION_HTTP, topology.replicas_http, replica_calls)
        )
    clusters += [
        service_cluster(name, address, service, limits.calls_per_service)
        for name, address, service in services
    ]
    return tuple(clusters)
