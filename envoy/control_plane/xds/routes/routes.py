"""Routes: which path goes to which cluster, for how long, and what may be tried again.

The transcoder runs first, so JSON calls match the gRPC paths too.
"""

from dataclasses import dataclass, replace
from functools import cache, lru_cache

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import (
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    RoutingPriority,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    FilterConfig,
    HedgePolicy,
    RetryPolicy,
    RetryPolicyRetryBackOff,
    RetryPolicyRetryHostPredicate,
    Route,
    RouteAction,
    RouteActionHashPolicy,
    RouteActionHashPolicyHeader,
    RouteActionMaxStreamDuration,
    RouteActionRequestMirrorPolicy,
    RouteMatch,
    VirtualHost,
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.filters.http.buffer.v3 import Buffer, BufferPerRoute
from envoy_data_plane.envoy.extensions.filters.http.cors.v3 import CorsPolicy
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import (
    ListMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import MeshTopology, Split
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import always, seconds
from control_plane.xds.routes.route_table import EncodedRoute, RouteTable

SHORT_S = 10.0
PREDICT_S = 30.0
CALL_S = 60.0
RELOAD_S = 600.0
# A stream in which nothing moves for so long belongs to nobody any more.
STREAM_IDLE_S = 3600.0
# Envoy's idle timeout must never be what ends a call.
_IDLE_MARGIN_S = 30.0
_NUM_RETRIES = 3
# Over HTTP/1.1 there are no pings that would find a process that hangs. A call without an answer
# for as long as pings take is given to another replica as well, and the first answer counts.
HEDGED_AFTER_S = 8.0
# Room beyond the limit of the contract for what encoding adds.
_BUFFER_MARGIN_BYTES = 1024 * 1024

# A server that stops answers CANCELLED for what its grace time was too short for.
_ANYWHERE_ELSE = "unavailable,cancelled,reset,connect-failure,refused-stream"
# An HTTP listener tells what gRPC tells by status codes.
_ANYWHERE_ELSE_HTTP = "gateway-error,reset,connect-failure,refused-stream"
_NOT_YET_SENT = "connect-failure,refused-stream,reset-before-request"


_CHALLENGERS = {
    names.CHAMPION: names.CHALLENGER,
    names.CHAMPION_UNARY: names.CHALLENGER_UNARY,
}
_MODEL_FIELDS = {f"/{service}/{method}": field for service, method, field in names.MODEL_FIELDS}


@dataclass(frozen=True)
class Rule:
    """One line of the routing table."""

    path: str
    """A prefix when it ends with a slash, else the whole path."""

    cluster: str
    limit_s: float | None = None
    """Longest call, whatever the client's deadline says; None: a stream without limit."""

    retry_on: str = _NOT_YET_SENT
    transcoded: bool = True
    mirrored: bool = False
    """Copies may be sent to the Challenger; of a stream they would double all its work."""
    unary: bool = False
    """Fleets whose replicas take unary calls over HTTP/1.1 get it that way."""

    predicts: bool = False
    """It is work for the engine that somebody waits for: of such calls only so many are let in."""

    @property
    def hedged(self) -> bool:
        """Whoever waits long is asked for at another replica as well."""
        return self.cluster == names.CHAMPION_UNARY

    @property
    def model_field(self) -> str:
        """Field of the first message that names the model; "": the model cannot be known."""
        return _MODEL_FIELDS.get(self.path, "")


_REPEATABLE = f"unavailable,{_NOT_YET_SENT}"

# First match wins: a stream's own line stands before its service's.
RULES = (
    Rule(f"/{names.PREDICT_SERVICE}/PredictStream", names.CHAMPION),
    Rule(
        f"/{names.PREDICT_SERVICE}/Predict",
        names.CHAMPION,
        PREDICT_S,
        _ANYWHERE_ELSE,
        mirrored=True,
        unary=True,
        predicts=True,
    ),
    Rule(f"/{names.PREDICT_SERVICE}/", names.CHAMPION, PREDICT_S, _ANYWHERE_ELSE),
    Rule(
        f"/{names.OPEN_INFERENCE_SERVICE}/ModelInfer",
        names.CHAMPION,
        PREDICT_S,
        _ANYWHERE_ELSE,
        mirrored=True,
        unary=True,
        predicts=True,
    ),
    Rule(f"/{names.OPEN_INFERENCE_SERVICE}/", names.CHAMPION, SHORT_S, _ANYWHERE_ELSE),
    Rule(f"/{names.TRAIN_SERVICE}/WatchTraining", names.TRAINING, retry_on=_REPEATABLE),
    Rule(f"/{names.TRAIN_SERVICE}/", names.TRAINING, CALL_S, _REPEATABLE),
    Rule(f"/{names.DATA_SERVICE}/ImportExamples", names.TRIGGER),
    Rule(f"/{names.DATA_SERVICE}/", names.TRIGGER, CALL_S, _REPEATABLE),
    Rule(f"/{names.RELOAD_SERVICE}/", names.CONTROL_PLANE, RELOAD_S, _REPEATABLE),
    Rule("/grpc.health.v1.Health/Watch", names.CHAMPION),
    Rule("/grpc.health.v1.Health/", names.CHAMPION, SHORT_S, _ANYWHERE_ELSE),
    Rule("/grpc.reflection.v1.ServerReflection/", names.CHAMPION),
    Rule("/grpc.reflection.v1alpha.ServerReflection/", names.CHAMPION),
    Rule("/v2", names.CHAMPION_HTTP, SHORT_S, _ANYWHERE_ELSE_HTTP, transcoded=False),
    Rule("/v2/health/", names.CHAMPION_HTTP, SHORT_S, _ANYWHERE_ELSE_HTTP, transcoded=False),
    Rule(
        "/v2/",
        names.CHAMPION_HTTP,
        PREDICT_S,
        _ANYWHERE_ELSE_HTTP,
        transcoded=False,
        predicts=True,
    ),
)


@lru_cache(maxsize=16)
def route_table(
    topology: MeshTopology, splits: tuple[tuple[str, Split], ...], unary: bool
) -> RouteTable:
    """The routing table; `splits` are models and splits, ordered by model.

    `unary`: every replica takes unary calls over HTTP/1.1.
    """
    routes = [_json(topology, bool(splits))]
    for rule in _over_http1() if unary else RULES:
        if rule.model_field:
            routes += [_split_route(rule, topology, model, split) for model, split in splits]
        routes.append(_whole_route(rule, topology, told_apart=bool(splits and rule.model_field)))
    return RouteTable(names.ROUTES, _host(topology), tuple(routes))


@cache
def _over_http1() -> tuple[Rule, ...]:
    return tuple(
        replace(rule, cluster=names.CHAMPION_UNARY) if rule.unary else rule for rule in RULES
    )


@lru_cache(maxsize=4)
def _host(topology: MeshTopology) -> bytes:
    return bytes(
        VirtualHost(
            name=names.ROUTES,
            domains=["*"],
            # What is not buffered whole cannot be sent a second time.
            request_body_buffer_limit=topology.limits.max_body_bytes + _BUFFER_MARGIN_BYTES,
            typed_per_filter_config=_cors(topology.allowed_origins),
        )
    )


@lru_cache(maxsize=4)
def _json(topology: MeshTopology, told_apart: bool) -> EncodedRoute:
    """What a JSON call matches before it is transcoded; it says which filters see its body."""
    filters = _bounded(topology.limits.max_body_bytes)
    route = Route(
        name="json",
        match=RouteMatch(prefix="/v1/"),
        direct_response=DirectResponseAction(status=404),
        typed_per_filter_config=filters | (_told_apart() if told_apart else {}),
    )
    return EncodedRoute.of(route)


@lru_cache(maxsize=64)
def _whole_route(rule: Rule, topology: MeshTopology, told_apart: bool) -> EncodedRoute:
    """The route of every model whose traffic is not split."""
    route = _route(rule, topology.limits.max_body_bytes)
    if told_apart:
        route.typed_per_filter_config.update(_told_apart())
    return EncodedRoute.of(route)


def _told_apart() -> dict[str, Any]:
    """Switch on the filters that find out which model is asked for."""
    on = Any.pack(FilterConfig(config=Any()))
    return {names.FIELD_EXTRACTION: on, names.LUA: on}


@lru_cache(maxsize=256)
def _split_route(rule: Rule, topology: MeshTopology, model: str, split: Split) -> EncodedRoute:
    """The route of one model."""
    route = _route(rule, topology.limits.max_body_bytes)
    action = route.route
    assert route.match is not None
    assert action is not None
    route.name = f"{route.name} of {model}"
    route.match.dynamic_metadata = [_asks_for(model, rule.model_field)]
    route.typed_per_filter_config.update(_told_apart())
    action.cluster = None
    challenger = _CHALLENGERS[rule.cluster]
    action.weighted_clusters = WeightedCluster(
        clusters=[
            _weighted(rule.cluster, names.CHAMPION_ROLE, split.champion),
            _weighted(challenger, names.CHALLENGER_ROLE, split.challenger),
        ],
        use_hash_policy=True,
    )
    # Without the header the choice is random.
    action.hash_policy = [
        RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=names.KEY_HEADER))
    ]
    if split.mirror_percent and rule.mirrored:
        action.request_mirror_policies = [_mirror(challenger, split.mirror_percent)]
    return EncodedRoute.of(route)


def _asks_for(model: str, field: str) -> MetadataMatcher:
    one_of = ListMatcher(one_of=ValueMatcher(string_match=StringMatcher(exact=model)))
    return MetadataMatcher(
        filter=names.FIELD_EXTRACTION,
        path=[MetadataMatcherPathSegment(key=field)],
        value=ValueMatcher(list_match=one_of),
    )


def _weighted(cluster: str, role: str, weight: int) -> WeightedClusterClusterWeight:
    return WeightedClusterClusterWeight(
        name=cluster, weight=weight, request_headers_to_add=[_header(names.ROLE_HEADER, role)]
    )


def _mirror(cluster: str, mirror_percent: int) -> RouteActionRequestMirrorPolicy:
    headers = ((names.ROLE_HEADER, names.CHALLENGER_ROLE), (names.MIRROR_HEADER, "1"))
    return RouteActionRequestMirrorPolicy(
        cluster=cluster,
        runtime_fraction=RuntimeFractionalPercent(
            default_value=FractionalPercent(numerator=mirror_percent)
        ),
        request_headers_mutations=[
            HeaderMutation(append=_header(name, value)) for name, value in headers
        ],
    )


def _header(name: str, value: str) -> HeaderValueOption:
    return HeaderValueOption(
        header=HeaderValue(key=name, value=value),
        append_action=HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _bounded(max_body_bytes: int) -> dict[str, Any]:
    buffer = BufferPerRoute(buffer=Buffer(max_request_bytes=max_body_bytes))
    return {names.BUFFER: Any.pack(buffer)}


def _route(rule: Rule, max_body_bytes: int) -> Route:
    prefix = rule.path.endswith("/")
    idle_s = STREAM_IDLE_S if rule.limit_s is None else rule.limit_s + _IDLE_MARGIN_S
    action = RouteAction(
        cluster=rule.cluster,
        # Each priority is counted by itself: a fleet that is full still tells how it is.
        priority=RoutingPriority.DEFAULT if rule.predicts else RoutingPriority.HIGH,
        # Envoy's own timeout would ignore a client's shorter deadline; 0 switches it off.
        timeout=seconds(0),
        idle_timeout=seconds(idle_s),
        max_stream_duration=_duration(rule.limit_s),
        retry_policy=_retry_policy(rule),
        hedge_policy=HedgePolicy(hedge_on_per_try_timeout=True) if rule.hedged else None,
    )
    as_it_is = {names.TRANSCODER: Any.pack(FilterConfig(disabled=True)), **_bounded(max_body_bytes)}
    return Route(
        name=rule.path.strip("/"),
        match=RouteMatch(prefix=rule.path) if prefix else RouteMatch(path=rule.path),
        route=action,
        typed_per_filter_config={} if rule.transcoded else as_it_is,
    )


def _duration(limit_s: float | None) -> RouteActionMaxStreamDuration:
    limit = seconds(limit_s or 0)
    # A client's deadline travels on in both cases; 0 sets no limit to it.
    return RouteActionMaxStreamDuration(max_stream_duration=limit, grpc_timeout_header_max=limit)


def _retry_policy(rule: Rule) -> RetryPolicy:
    previous_hosts = RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=Any.pack(PreviousHostsPredicate()),
    )
    return RetryPolicy(
        retry_on=rule.retry_on,
        per_try_timeout=seconds(HEDGED_AFTER_S) if rule.hedged else None,
        num_retries=_NUM_RETRIES,
        retry_host_predicate=[previous_hosts],
        host_selection_retry_max_attempts=5,
        retry_back_off=RetryPolicyRetryBackOff(
            base_interval=seconds(0.02), max_interval=seconds(0.2)
        ),
    )


def _cors(origins: tuple[str, ...]) -> dict[str, Any]:
    if not origins:
        return {}
    policy = CorsPolicy(
        allow_origin_string_match=[_origin(origin) for origin in origins],
        allow_methods="GET, POST, PUT, OPTIONS",
        allow_headers="content-type, x-grpc-web, x-user-agent, grpc-timeout, x-mesh-key",
        expose_headers="grpc-status, grpc-message, grpc-status-details-bin, x-request-id",
        max_age="86400",
        filter_enabled=always(),
    )
    return {names.CORS: Any.pack(policy)}


def _origin(origin: str) -> StringMatcher:
    return StringMatcher(prefix="http") if origin == "*" else StringMatcher(exact=origin)
