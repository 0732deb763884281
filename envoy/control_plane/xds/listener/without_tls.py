"""What clients without TLS are told on a port with TLS: that they need it, and nothing else."""

from envoy_data_plane.envoy.config.core.v3 import HttpProtocolOptions
from envoy_data_plane.envoy.config.listener.v3 import (
    Filter,
    FilterChain,
    FilterChainMatch,
    ListenerFilter,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    Route,
    RouteConfiguration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.router.v3 import Router
from envoy_data_plane.envoy.extensions.filters.listener.tls_inspector.v3 import TlsInspector
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager.v3 import (
    HttpConnectionManager,
    HttpConnectionManagerCodecType,
    HttpFilter,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.xds.basics.messages import seconds
from control_plane.xds.listener.access_log import access_log
from control_plane.xds.listener.local_replies import one_reply
from control_plane.xds.listener.reply_table import Reply

NAME = "without-tls"
STATUS = 400
FAILED_PRECONDITION = 9
MESSAGE = (
    "this port takes TLS only: use https:// or a client with TLS; a token that came without TLS "
    "may have been read on its way"
)
# A connection gets one answer, and this many seconds to ask for it.
IDLE_S = 10.0


def tls_inspector() -> ListenerFilter:
    """Return the filter that finds out whether a connection begins with TLS."""
    return ListenerFilter(
        name="envoy.filters.listener.tls_inspector", typed_config=Any.pack(TlsInspector())
    )


def without_tls() -> FilterChain:
    """Return the filters of connections that do not begin with TLS."""
    route = Route(
        name=NAME,
        match=RouteMatch(prefix="/"),
        direct_response=DirectResponseAction(status=STATUS),
    )
    routes = RouteConfiguration(
        name=NAME, virtual_hosts=[VirtualHost(name=NAME, domains=["*"], routes=[route])]
    )
    router = HttpFilter(name="envoy.filters.http.router", typed_config=Any.pack(Router()))
    manager = HttpConnectionManager(
        stat_prefix=NAME,
        codec_type=HttpConnectionManagerCodecType.AUTO,
        route_config=routes,
        http_filters=[router],
        local_reply_config=one_reply(Reply(STATUS, FAILED_PRECONDITION, MESSAGE)),
        access_log=[access_log()],
        use_remote_address=True,
        request_headers_timeout=seconds(IDLE_S),
        stream_idle_timeout=seconds(IDLE_S),
        common_http_protocol_options=HttpProtocolOptions(
            idle_timeout=seconds(IDLE_S), max_requests_per_connection=1
        ),
    )
    network_filter = Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=Any.pack(manager)
    )
    return FilterChain(
        name=NAME,
        filter_chain_match=FilterChainMatch(transport_protocol="raw_buffer"),
        filters=[network_filter],
    )
