"""Clusters: how Envoy reaches the services, checks their health, and limits their load."""

from dataclasses import dataclass

from envoy_data_plane.envoy.config.cluster.v3 import (
    CircuitBreakers,
    CircuitBreakersThresholds,
    Cluster,
    ClusterCommonLbConfig,
    ClusterDiscoveryType,
    ClusterEdsClusterConfig,
    ClusterLbPolicy,
    ClusterLbSubsetConfig,
    ClusterLbSubsetConfigLbSubsetFallbackPolicy,
    ClusterLbSubsetConfigLbSubsetSelector,
    ClusterLbSubsetConfigLbSubsetSelectorLbSubsetSelectorFallbackPolicy,
    ClusterLeastRequestLbConfig,
    ClusterSlowStartConfig,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HealthCheck,
    HealthCheckGrpcHealthCheck,
    HealthCheckHttpHealthCheck,
    HealthCheckTcpHealthCheck,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    KeepaliveSettings,
    RoutingPriority,
    TransportSocket,
)
from envoy_data_plane.envoy.config.core.v3 import (
    HttpProtocolOptions as CommonHttpProtocolOptions,
)
from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
    HttpProtocolOptions,
    HttpProtocolOptionsExplicitHttpConfig,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import Address
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import ADS, percent, seconds
from control_plane.xds.clusters.endpoints import Endpoints
from control_plane.xds.clusters.failing_hosts import outlier_detection
from control_plane.xds.clusters.part_tls import CONNECTION_S, tls_to
from service_kit.identities.names import CONTROL_PLANE, INFERENCE
from service_kit.unary_over_http1.wire import HEALTH_PATH

CONNECT_TIMEOUT_S = 1.0
HEALTH_INTERVAL_S = 1.0
# A replica may be slow to answer while it loads a model on a busy machine.
HEALTH_TIMEOUT_S = 3.0
# A replica that is healthy again gets calls at the latest after this time, seconds.
HEALTH_RETRY_S = 0.25
SLOW_START_S = 5.0
# Pings find a machine that vanished without closing its connections, or a process that hangs. Its
# calls in flight then go to another replica, long before their deadlines.
KEEPALIVE_INTERVAL_S = 4.0
KEEPALIVE_TIMEOUT_S = 4.0
# Calls that share an HTTP/2 connection; Envoy opens another connection for further calls.
STREAMS_PER_CONNECTION = 1024
_PROTOCOL_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


# In each of these, `identity` is the folder, where Envoy runs, that names its own certificate (see
# part_tls.py); empty: Envoy speaks with the parts in plain text.


def replica_cluster(name: str, health_service: str, calls: int, identity: str = "") -> Cluster:
    """Return a cluster of the replicas for gRPC over HTTP/2."""
    replicas = _Part(INFERENCE, identity)
    return _discovered(_cluster(name, _grpc_health(health_service), calls, _HTTP2, replicas))


def replica_http_cluster(name: str, calls: int, identity: str = "") -> Cluster:
    """Return a cluster of the replicas' HTTP listeners."""
    return _discovered(_cluster(name, _tcp_health(), calls, _HTTP1, _Part(INFERENCE, identity)))


def replica_unary_cluster(name: str, calls: int, identity: str = "") -> Cluster:
    """Return a cluster of the replicas for unary calls over HTTP/1.1."""
    health = _health(http=HealthCheckHttpHealthCheck(path=HEALTH_PATH))
    replicas = _Part(INFERENCE, identity)
    return _discovered(_cluster(name, health, calls, _HTTP1_TRAILERS, replicas))


def _discovered(cluster: Cluster) -> Cluster:
    """Let a cluster take its endpoints from a resource of their own: replicas come and go."""
    cluster.type = ClusterDiscoveryType.EDS
    cluster.eds_cluster_config = ClusterEdsClusterConfig(eds_config=ADS)
    # A replica that is taken out of the endpoints gets no more calls even while it is healthy.
    cluster.ignore_health_on_host_removal = True
    cluster.outlier_detection = outlier_detection(by_answers=True)
    # A route may ask for the replicas that answer for its model. Every other call goes to any
    # replica; so does a call whose route asks for a subset that there is not any more, since
    # endpoints reach Envoy before the routes that go with them.
    cluster.lb_subset_config = ClusterLbSubsetConfig(
        fallback_policy=ClusterLbSubsetConfigLbSubsetFallbackPolicy.ANY_ENDPOINT,
        subset_selectors=[
            ClusterLbSubsetConfigLbSubsetSelector(
                keys=[names.SERVES],
                fallback_policy=(
                    ClusterLbSubsetConfigLbSubsetSelectorLbSubsetSelectorFallbackPolicy.ANY_ENDPOINT
                ),
            )
        ],
        list_as_any=True,
    )
    cluster.least_request_lb_config = ClusterLeastRequestLbConfig(
        slow_start_config=ClusterSlowStartConfig(slow_start_window=seconds(SLOW_START_S))
    )
    return cluster


def service_cluster(
    name: str, address: Address, health_service: str, calls: int, identity: str = ""
) -> Cluster:
    """Return the cluster of the part `name`, which has one address."""
    health = _grpc_health(health_service)
    cluster = _cluster(name, health, calls, _HTTP2, _Part(name, identity))
    return with_endpoints(cluster, Endpoints(name, (address,)))


def control_plane_cluster(address: Address, identity: str = "") -> Cluster:
    """Return the cluster from which Envoy gets everything else; the bootstrap holds it."""
    endpoints = Endpoints(names.DISCOVERY, (address,))
    return Cluster(
        name=names.DISCOVERY,
        type=_static_type(endpoints),
        connect_timeout=seconds(CONNECT_TIMEOUT_S),
        load_assignment=endpoints.message(),
        transport_socket=_Part(CONTROL_PLANE, identity).transport(_HTTP2),
        typed_extension_protocol_options={
            _PROTOCOL_OPTIONS: Any.pack(HttpProtocolOptions(explicit_http_config=_HTTP2))
        },
    )


def with_endpoints(cluster: Cluster, endpoints: Endpoints) -> Cluster:
    """Copy a cluster and put these endpoints into it, so that it needs no control plane."""
    static = Cluster.parse(bytes(cluster))
    static.type = _static_type(endpoints)
    static.eds_cluster_config = None
    static.load_assignment = endpoints.message()
    return static


def _static_type(endpoints: Endpoints) -> ClusterDiscoveryType:
    resolved = all(address.is_ip for address in endpoints.addresses)
    return ClusterDiscoveryType.STATIC if resolved else ClusterDiscoveryType.STRICT_DNS


_HTTP2 = HttpProtocolOptionsExplicitHttpConfig(
    http2_protocol_options=Http2ProtocolOptions(
        max_concurrent_streams=STREAMS_PER_CONNECTION,
        connection_keepalive=KeepaliveSettings(
            interval=seconds(KEEPALIVE_INTERVAL_S), timeout=seconds(KEEPALIVE_TIMEOUT_S)
        ),
    )
)
_HTTP1_TRAILERS = HttpProtocolOptionsExplicitHttpConfig(
    http_protocol_options=Http1ProtocolOptions(enable_trailers=True)
)
_HTTP1 = HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())


@dataclass(frozen=True)
class _Part:
    """Who a cluster's hosts are, and how Envoy speaks with them."""

    name: str
    identity: str

    def transport(self, protocol: HttpProtocolOptionsExplicitHttpConfig) -> TransportSocket | None:
        if not self.identity:
            return None
        return tls_to(self.name, self.identity, "h2" if protocol is _HTTP2 else "http/1.1")

    def options(self, protocol: HttpProtocolOptionsExplicitHttpConfig) -> HttpProtocolOptions:
        options = HttpProtocolOptions(explicit_http_config=protocol)
        if self.identity:
            options.common_http_protocol_options = CommonHttpProtocolOptions(
                max_connection_duration=seconds(CONNECTION_S)
            )
        return options


def _cluster(
    name: str,
    health: HealthCheck,
    calls: int,
    protocol: HttpProtocolOptionsExplicitHttpConfig,
    part: _Part,
) -> Cluster:
    return Cluster(
        name=name,
        connect_timeout=seconds(CONNECT_TIMEOUT_S),
        lb_policy=ClusterLbPolicy.LEAST_REQUEST,
        common_lb_config=ClusterCommonLbConfig(
            # By default Envoy sends calls to unhealthy hosts when every host is unhealthy.
            healthy_panic_threshold=percent(0),
            # The result of a health check counts at once, not up to a second later.
            update_merge_window=seconds(0),
        ),
        health_checks=[health],
        outlier_detection=outlier_detection(by_answers=False),
        circuit_breakers=_circuit_breakers(calls),
        transport_socket=part.transport(protocol),
        typed_extension_protocol_options={_PROTOCOL_OPTIONS: Any.pack(part.options(protocol))},
    )


def _grpc_health(service: str) -> HealthCheck:
    return _health(grpc=HealthCheckGrpcHealthCheck(service_name=service))


def _tcp_health() -> HealthCheck:
    return _health(tcp=HealthCheckTcpHealthCheck())


def _health(
    grpc: HealthCheckGrpcHealthCheck | None = None,
    http: HealthCheckHttpHealthCheck | None = None,
    tcp: HealthCheckTcpHealthCheck | None = None,
) -> HealthCheck:
    return HealthCheck(
        timeout=seconds(HEALTH_TIMEOUT_S),
        interval=seconds(HEALTH_INTERVAL_S),
        # By default Envoy checks a cluster without traffic once a minute.
        no_traffic_interval=seconds(HEALTH_INTERVAL_S),
        unhealthy_interval=seconds(HEALTH_RETRY_S),
        # Checks in a row that have to time out. An answer NOT_SERVING counts at once.
        unhealthy_threshold=3,
        healthy_threshold=1,
        grpc_health_check=grpc,
        http_health_check=http,
        tcp_health_check=tcp,
    )


def _circuit_breakers(calls: int) -> CircuitBreakers:
    limits = [
        CircuitBreakersThresholds(
            priority=priority,
            # HTTP/1.1 needs a connection for each call in flight.
            max_connections=max(1024, calls),
            max_pending_requests=calls,
            max_requests=calls,
            # When a replica dies, Envoy sends all its calls again at once.
            max_retries=calls,
            track_remaining=True,
        )
        for priority in (RoutingPriority.DEFAULT, RoutingPriority.HIGH)
    ]
    return CircuitBreakers(thresholds=limits)
