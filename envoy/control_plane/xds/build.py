"""The pure function from the description of the mesh to Envoy's resources."""

from functools import lru_cache

from envoy_data_plane.envoy.config.cluster.v3 import Cluster
from envoy_data_plane.envoy.config.listener.v3 import Listener

from control_plane.access.rules import TokenState
from control_plane.topology import ADMIN_HOST, UNCOUNTED_CALLS, Address, Limits, MeshTopology
from control_plane.xds.access.token_check import extensions
from control_plane.xds.basics import names
from control_plane.xds.clusters.clusters import (
    replica_cluster,
    replica_http_cluster,
    replica_unary_cluster,
    service_cluster,
)
from control_plane.xds.clusters.endpoints import Endpoints
from control_plane.xds.clusters.issuers import issuer_cluster
from control_plane.xds.clusters.runtime_limits import RuntimeLimits, runtime_limits
from control_plane.xds.listener.listener import listener
from control_plane.xds.routes.route_table import SpecialModels, route_table
from control_plane.xds.stream.snapshot import Snapshot


def build_snapshot(topology: MeshTopology, tokens: TokenState | None = None) -> Snapshot:
    """Build every resource. Equal descriptions give equal bytes.

    `tokens` is needed when the topology says who may call.

    A resource that a change of the fleet does not touch is the same object as before.
    """
    complete = topology.complete
    serves = {
        address: (*models, names.EVERY_MODEL) if address in complete else models
        for address, models in topology.models_by_address.items()
    }
    models = SpecialModels(topology.special_models, some_are_complete=bool(complete))
    return Snapshot(
        clusters=_clusters(topology.fixed),
        endpoints=(
            Endpoints(names.CHAMPION, topology.replicas, serves),
            # The same replicas in another role. They are there without a split too: if they came
            # with it, Envoy would send them requests before it has seen that they are healthy.
            Endpoints(names.CHALLENGER, topology.replicas, serves),
            Endpoints(names.CHAMPION_HTTP, topology.replicas_http, serves),
            Endpoints(names.CHAMPION_UNARY, topology.replicas_unary, serves),
            Endpoints(names.CHALLENGER_UNARY, topology.replicas_unary, serves),
        ),
        listeners=(_listener(topology.fixed),),
        routes=(route_table(topology.fixed, models, topology.all_take_unary),),
        runtime=_runtime(topology.limits, len(topology.replicas), topology.preparing),
        extensions=extensions(topology.access, tokens) if topology.access and tokens else (),
        node_id=topology.node_id,
        admin=Address(ADMIN_HOST, topology.admin_port),
    )


@lru_cache(maxsize=16)
def _runtime(limits: Limits, replicas: int, preparing: bool) -> RuntimeLimits:
    return runtime_limits(limits, replicas, preparing)


@lru_cache(maxsize=4)
def _listener(topology: MeshTopology) -> Listener:
    return listener(topology)


@lru_cache(maxsize=4)
def _clusters(topology: MeshTopology) -> tuple[Cluster, ...]:
    """Build the clusters, always with those of the Challenger: a canary changes routes only."""
    limits = topology.limits
    services = (
        (names.TRAINING, topology.training, names.TRAIN_SERVICE),
        (names.TRIGGER, topology.trigger, names.DATA_SERVICE),
        (names.CONTROL_PLANE, topology.control_plane, names.RELOAD_SERVICE),
    )
    identity = topology.identity
    clusters = [
        replica_cluster(name, names.PREDICT_SERVICE, UNCOUNTED_CALLS, identity)
        for name in (names.CHAMPION, names.CHALLENGER)
    ]
    clusters.append(replica_http_cluster(names.CHAMPION_HTTP, UNCOUNTED_CALLS, identity))
    clusters += [
        replica_unary_cluster(name, UNCOUNTED_CALLS, identity)
        for name in (names.CHAMPION_UNARY, names.CHALLENGER_UNARY)
    ]
    clusters += [
        service_cluster(name, address, service, limits.calls_per_service, identity)
        for name, address, service in services
    ]
    issuers = topology.access.issuers if topology.access else ()
    clusters += [issuer_cluster(number, issuer) for number, issuer in enumerate(issuers)]
    return tuple(clusters)
