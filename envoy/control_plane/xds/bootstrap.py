"""The file that Envoy starts from: the address of its control plane, or a whole snapshot."""

from datetime import timedelta

from control_plane.topology import MAX_CLIENT_CONNECTIONS, Address
from control_plane.xds.basics import names
from control_plane.xds.basics.lean_messages import lean_messages
from control_plane.xds.basics.messages import ADS, socket_address
from control_plane.xds.clusters.clusters import control_plane_cluster, with_endpoints
from control_plane.xds.listener.listener import route_name, whole
from control_plane.xds.overload import MAX_HEAP_BYTES, overload_manager
from control_plane.xds.stream.snapshot import Snapshot

with lean_messages():
    from envoy_data_plane.envoy.config.bootstrap.v3 import (
        Admin,
        Bootstrap,
        BootstrapDynamicResources,
        BootstrapStaticResources,
        LayeredRuntime,
        RuntimeLayer,
        RuntimeLayerRtdsLayer,
    )
    from envoy_data_plane.envoy.config.cluster.v3 import Cluster
    from envoy_data_plane.envoy.config.core.v3 import (
        ApiConfigSource,
        ApiConfigSourceApiType,
        ApiVersion,
        BackoffStrategy,
        GrpcService,
        GrpcServiceEnvoyGrpc,
        Node,
        RetryPolicy,
    )
    from envoy_data_plane.envoy.config.metrics.v3 import StatsConfig, StatsMatcher
    from envoy_data_plane.envoy.type.matcher.v3 import (
        ListStringMatcher,
        RegexMatcher,
        StringMatcher,
    )

NODE_CLUSTER = "mesh"
# What Envoy's admin page answers: statistics and whether Envoy is ready. Everything that changes
# Envoy or shows its configuration stays shut, since whoever has an account on the machine reaches
# this port, and so do web pages that the operator's browser shows.
_READ_ONLY = r"/(ready|stats|stats/prometheus|clusters|runtime)(\?.*)?"
# Envoy connects to a control plane that comes back within a quarter of a second.
RECONNECT = BackoffStrategy(
    base_interval=timedelta(milliseconds=50), max_interval=timedelta(milliseconds=250)
)


def dynamic_bootstrap(
    control_plane: Address,
    admin: Address,
    node_id: str,
    max_connections: int = MAX_CLIENT_CONNECTIONS,
    max_heap_bytes: int = MAX_HEAP_BYTES,
    identity: str = "",
) -> bytes:
    """Return the bootstrap of an Envoy that gets everything else from the control plane (ADS).

    `identity`: as in MeshTopology; only a control plane that proves its name is listened to.
    """
    cluster = control_plane_cluster(control_plane, identity)
    stream = ApiConfigSource(
        api_type=ApiConfigSourceApiType.GRPC,
        transport_api_version=ApiVersion.V3,
        grpc_services=[
            GrpcService(
                envoy_grpc=GrpcServiceEnvoyGrpc(
                    cluster_name=cluster.name, retry_policy=RetryPolicy(retry_back_off=RECONNECT)
                )
            )
        ],
    )
    message = Bootstrap(
        node=Node(id=node_id, cluster=NODE_CLUSTER),
        admin=_admin(admin),
        stats_config=_statistics(),
        static_resources=BootstrapStaticResources(clusters=[cluster]),
        dynamic_resources=BootstrapDynamicResources(
            ads_config=stream, cds_config=ADS, lds_config=ADS
        ),
        layered_runtime=_runtime(
            RuntimeLayer(
                name=names.RUNTIME,
                rtds_layer=RuntimeLayerRtdsLayer(name=names.RUNTIME, rtds_config=ADS),
            )
        ),
        overload_manager=overload_manager(max_connections, max_heap_bytes),
    )
    return bytes(message)


def bootstrap(
    snapshot: Snapshot,
    max_connections: int = MAX_CLIENT_CONNECTIONS,
    max_heap_bytes: int = MAX_HEAP_BYTES,
) -> bytes:
    """Return a bootstrap that holds the whole snapshot, for an Envoy without a control plane.

    Both kinds are protobuf bytes, a `.pb` file for `envoy --config-path`.
    """
    endpoints = {item.cluster_name: item for item in snapshot.endpoints}
    routes = {item.name: item for item in snapshot.routes}
    extensions = {item.name: item.config() for item in snapshot.extensions}

    def static(cluster: Cluster) -> Cluster:
        own = endpoints.get(cluster.name)
        return with_endpoints(cluster, own) if own else cluster

    resources = BootstrapStaticResources(
        clusters=[static(cluster) for cluster in snapshot.clusters],
        listeners=[
            whole(item, routes[route_name(item)].message(), extensions)
            for item in snapshot.listeners
        ],
    )
    message = Bootstrap(
        node=Node(id=snapshot.node_id, cluster=NODE_CLUSTER),
        admin=_admin(snapshot.admin),
        stats_config=_statistics(),
        static_resources=resources,
        layered_runtime=_runtime(
            RuntimeLayer(name=snapshot.runtime.name, static_layer=snapshot.runtime.layer())
        ),
        overload_manager=overload_manager(max_connections, max_heap_bytes),
    )
    return bytes(message)


def _runtime(layer: RuntimeLayer) -> LayeredRuntime:
    return LayeredRuntime(layers=[layer])


def _statistics() -> StatsConfig:
    """Keep all statistics but those of the filter of gRPC-Web: it counts every method that a client
    invents, and what it counts of the others the filter of gRPC counts as well."""
    left_out = [StringMatcher(prefix=f"cluster.{name}.grpc-web.") for name in names.CLUSTERS]
    return StatsConfig(
        stats_matcher=StatsMatcher(exclusion_list=ListStringMatcher(patterns=left_out))
    )


def _admin(address: Address) -> Admin:
    allowed = StringMatcher(safe_regex=RegexMatcher(regex=_READ_ONLY))
    return Admin(address=socket_address(address), allow_paths=[allowed])
