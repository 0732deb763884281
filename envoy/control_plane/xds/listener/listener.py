"""The listener: gRPC, JSON and gRPC-Web on one port."""

from collections.abc import Mapping

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Http1ProtocolOptions,
    Http2ProtocolOptions,
    HttpProtocolOptions,
    KeepaliveSettings,
    TcpKeepalive,
    TypedExtensionConfig,
)
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    Listener,
)
from envoy_data_plane.envoy.config.route.v3 import RouteConfiguration
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpConnectionManagerServerHeaderTransformation,
    Rds,
)
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation.v3 import (
    HeaderMutation as EarlyHeaderMutation,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import Address, MeshTopology
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import ADS, seconds, socket_address
from control_plane.xds.listener.access_log import access_log
from control_plane.xds.listener.filters import http_filters
from control_plane.xds.listener.local_replies import local_reply_config
from control_plane.xds.listener.tls import tls
from control_plane.xds.listener.without_tls import tls_inspector, without_tls

SERVER_NAME = "mesh"
# A connection without a call takes a place from others, which can connect again at any time.
IDLE_CONNECTION_S = 600.0
HEADERS_TIMEOUT_S = 10.0
# Time for the handshake of TLS, which without it may take as long as a connection may be idle.
HANDSHAKE_S = 10.0
# Pings find a client whose machine vanished; Envoy then frees its streams.
KEEPALIVE_INTERVAL_S = 30.0
KEEPALIVE_TIMEOUT_S = 20.0
# Up to these limits a request with too many headers is read, so that it gets an answer that says so
# (header_limit.py). Above them the HTTP/2 codec can only reset its stream; one header that alone is
# above CODEC_HEADER_KB ends the connection.
CODEC_HEADER_KB = 256
CODEC_HEADERS = 1000
# Calls that one connection may have under way; a gRPC client waits with further ones. Together with
# the limit of a body it bounds what a connection can hold.
STREAMS_PER_CONNECTION = 256
STREAM_WINDOW_BYTES = 1024 * 1024
CONNECTION_WINDOW_BYTES = 4 * 1024 * 1024
_MANAGER = "envoy.filters.network.http_connection_manager"


def listener(topology: MeshTopology) -> Listener:
    """Return the listener, which takes its routes from the control plane (see `whole`)."""
    manager = HttpConnectionManager(
        stat_prefix=names.LISTENER,
        codec_type=HttpConnectionManagerCodecType.AUTO,
        rds=Rds(config_source=ADS, route_config_name=names.ROUTES),
        http_filters=http_filters(topology),
        local_reply_config=local_reply_config(topology.limits),
        access_log=[access_log()],
        server_name=SERVER_NAME,
        server_header_transformation=HttpConnectionManagerServerHeaderTransformation.OVERWRITE,
        use_remote_address=True,
        normalize_path=True,
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        request_headers_timeout=seconds(HEADERS_TIMEOUT_S),
        max_request_headers_kb=CODEC_HEADER_KB,
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=seconds(IDLE_CONNECTION_S), max_headers_count=CODEC_HEADERS
        ),
        http_protocol_options=Http1ProtocolOptions(
            accept_http_10=True, default_host_for_http_10=SERVER_NAME
        ),
        http2_protocol_options=Http2ProtocolOptions(
            max_header_field_size_kb=CODEC_HEADER_KB,
            max_concurrent_streams=STREAMS_PER_CONNECTION,
            # Bytes that may come before Envoy has looked at those before them.
            initial_stream_window_size=STREAM_WINDOW_BYTES,
            initial_connection_window_size=CONNECTION_WINDOW_BYTES,
            # One malformed request ends its own stream and not the connection with all the others.
            override_stream_error_on_invalid_http_message=True,
            connection_keepalive=KeepaliveSettings(
                interval=seconds(KEEPALIVE_INTERVAL_S), timeout=seconds(KEEPALIVE_TIMEOUT_S)
            ),
        ),
        # Before routing, so that the headers that a route adds stay.
        early_header_mutation_extensions=[_without_envoys_headers()],
    )
    chain = FilterChain(filters=[Filter(name=_MANAGER, typed_config=Any.pack(manager))])
    chains, inspectors = [chain], []
    if topology.certificates:
        chain.transport_socket = tls(topology.certificates)
        chain.filter_chain_match = FilterChainMatch(transport_protocol="tls")
        chain.transport_socket_connect_timeout = seconds(HANDSHAKE_S)
        chains, inspectors = [chain, without_tls()], [tls_inspector()]
    return Listener(
        name=names.LISTENER,
        address=socket_address(Address(topology.host, topology.port)),
        listener_filters=inspectors,
        filter_chains=chains,
        tcp_keepalive=TcpKeepalive(keepalive_time=30, keepalive_interval=10, keepalive_probes=3),
    )


def route_name(resource: Listener) -> str:
    """Return the name of the routes that a listener asks for."""
    rds = _manager(resource).rds
    return rds.route_config_name if rds else ""


def whole(
    resource: Listener, routes: RouteConfiguration, extensions: Mapping[str, Any]
) -> Listener:
    """Copy a listener and put routes and filters into it, so that it needs no control plane."""
    manager = _manager(resource)
    manager.rds = None
    manager.route_config = routes
    for each in manager.http_filters:
        if each.config_discovery:
            each.config_discovery, each.typed_config = None, extensions[each.name]
    static = Listener.parse(bytes(resource))
    static.filter_chains[0].filters[0].typed_config = Any.pack(manager)
    return static


def extension_names(resource: Listener) -> frozenset[str]:
    """Return the names of the filters whose configuration comes over ECDS."""
    filters = _manager(resource).http_filters
    return frozenset(each.name for each in filters if each.config_discovery)


def _manager(resource: Listener) -> HttpConnectionManager:
    packed = resource.filter_chains[0].filters[0].typed_config
    assert packed is not None
    manager = packed.unpack()
    assert isinstance(manager, HttpConnectionManager)
    return manager


def _without_envoys_headers() -> TypedExtensionConfig:
    """Remove headers of clients that only Envoy may set, and add one that gRPC asks for."""
    own = (names.ROLE_HEADER, names.MIRROR_HEADER, *names.CALLER_HEADERS)
    # Servers of gRPC reset a call without this header, and Envoy would take that for a fault of the
    # server and try others. Clients over HTTP/1.1 do not send it.
    trailers = HeaderValueOption(
        header=HeaderValue(key="te", value="trailers"),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )
    mutation = EarlyHeaderMutation(
        mutations=[*(HeaderMutation(remove=name) for name in own), HeaderMutation(append=trailers)]
    )
    return TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation", typed_config=Any.pack(mutation)
    )
