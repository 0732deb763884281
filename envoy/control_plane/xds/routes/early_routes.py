"""The virtual host, and the routes that a call matches before the filters have looked at it."""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.route.v3 import (
    HeaderMatcher,
    Route,
    RouteAction,
    RouteActionClusterNotFoundResponseCode,
    RouteActionMaxStreamDuration,
    RouteMatch,
    VirtualHost,
)
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy
from envoy_data_plane.envoy.type.matcher.v3 import (
    StringMatcher,
)
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import MeshTopology
from control_plane.xds.access.route_scopes import token_check
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import always, seconds
from control_plane.xds.routes.known_paths import HEALTH_PATH
from control_plane.xds.routes.route_filters import OFF, ON, bounded, model_filters

# Added to the contract's limit of a body for the bytes that its encoding adds.
_BUFFER_MARGIN_BYTES = 1024 * 1024
# Time for a body to come, seconds.
BODY_S = 30.0
_HEAD = HeaderMatcher(name=":method", string_match=StringMatcher(exact="HEAD"))
_OPTIONS = HeaderMatcher(name=":method", string_match=StringMatcher(exact="OPTIONS"))
# Headers that pages of an allowed origin may send, and those of an answer that they may read.
_SENT_BY_PAGES = (
    *("authorization", "content-type", "grpc-timeout", "inference-header-content-length"),
    *("traceparent", "tracestate", "x-grpc-web", names.KEY_HEADER, "x-request-id", "x-user-agent"),
)
_READ_BY_PAGES = (
    *("allow", "grpc-message", "grpc-status", "grpc-status-details-bin"),
    *("inference-header-content-length", "retry-after", "www-authenticate", "x-mesh-alias"),
    *("x-mesh-model", "x-mesh-replica", "x-mesh-version", "x-request-id"),
)
_PREFLIGHT = [
    HeaderMatcher(name=name, present_match=True)
    for name in ("origin", "access-control-request-method")
]


def virtual_host(topology: MeshTopology) -> VirtualHost:
    """The virtual host of every name, without its routes."""
    return VirtualHost(
        name=names.ROUTES,
        domains=["*"],
        # Envoy can send a body a second time only if it has buffered all of it.
        request_body_buffer_limit=topology.limits.max_body_bytes + _BUFFER_MARGIN_BYTES,
        typed_per_filter_config=_cors(topology.allowed_origins),
        # Tokens are for Envoy alone. What it has found out goes on in headers of its own.
        request_headers_to_remove=["authorization"],
    )


def early_routes(topology: MeshTopology, models_told_apart: bool) -> Iterator[Route]:
    """The routes that a call matches before a filter has answered or transcoded it.

    They answer no call: they decide which filters see it.
    """
    filters = bounded(topology.limits.max_body_bytes) | {names.JSON_CHECK: ON}
    filters |= token_check(topology.access)
    filters |= model_filters() if models_told_apart else {}
    head = {names.HEAD: ON}
    preflight = RouteMatch(prefix="/", headers=[_OPTIONS, *_PREFLIGHT])
    yield _filtered("preflight", preflight, {names.TRANSCODER: OFF})
    yield _filtered("head health", RouteMatch(path=HEALTH_PATH, headers=[_HEAD]), head)
    yield _filtered("head", RouteMatch(prefix="/v1/", headers=[_HEAD]), filters | head)
    yield _filtered("json", RouteMatch(prefix="/v1/"), filters)


def _filtered(name: str, match: RouteMatch, filters: dict[str, Any]) -> Route:
    return Route(
        name=name,
        match=match,
        # The filter of CORS ignores routes that lead to no cluster. This one leads to the cluster
        # that a header names, which no request has, since Envoy removes it from what clients send.
        route=RouteAction(
            cluster_header=names.ROLE_HEADER,
            cluster_not_found_response_code=RouteActionClusterNotFoundResponseCode.NOT_FOUND,
            # Holds while the body comes: with the whole body the call gets the route of its method.
            max_stream_duration=RouteActionMaxStreamDuration(max_stream_duration=seconds(BODY_S)),
        ),
        typed_per_filter_config=filters,
    )


def _cors(origins: tuple[str, ...]) -> dict[str, Any]:
    if not origins:
        return {}
    policy = CorsPolicy(
        allow_origin_string_match=[_origin(origin) for origin in origins],
        allow_methods="DELETE, GET, HEAD, OPTIONS, POST, PUT",
        allow_headers=", ".join(_SENT_BY_PAGES),
        expose_headers=", ".join(_READ_BY_PAGES),
        max_age="86400",
        filter_enabled=always(),
    )
    return {names.CORS: Any.pack(policy)}


def _origin(origin: str) -> StringMatcher:
    return StringMatcher(prefix="http") if origin == "*" else StringMatcher(exact=origin)
