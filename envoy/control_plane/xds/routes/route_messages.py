"""Envoy's messages for the rules of routing.

The transcoder runs before the router, so JSON calls match the gRPC paths too.
"""

from collections.abc import Iterator

from envoy_data_plane.envoy.config.common.mutation_rules.v3 import HeaderMutation
from envoy_data_plane.envoy.config.core.v3 import (
    DataSource,
    HeaderValue,
    HeaderValueOption,
    HeaderValueOptionHeaderAppendAction,
    Metadata,
    RoutingPriority,
    RuntimeFractionalPercent,
)
from envoy_data_plane.envoy.config.route.v3 import (
    DirectResponseAction,
    HeaderMatcher,
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
    WeightedCluster,
    WeightedClusterClusterWeight,
)
from envoy_data_plane.envoy.extensions.retry.host.previous_hosts.v3 import PreviousHostsPredicate
from envoy_data_plane.envoy.type.matcher.v3 import (
    ListMatcher,
    MetadataMatcher,
    MetadataMatcherPathSegment,
    RegexMatcher,
    StringMatcher,
    ValueMatcher,
)
from envoy_data_plane.envoy.type.v3 import FractionalPercent
from envoy_data_plane.google.protobuf import Any

from control_plane.topology import AnsweredBy, MeshTopology, ModelTraffic, Split
from control_plane.xds.access.route_scopes import scope_check
from control_plane.xds.basics import names
from control_plane.xds.basics.messages import seconds, struct
from control_plane.xds.routes.route_filters import OFF, bounded, model_filters
from control_plane.xds.routes.route_rules import Rule

_NUM_RETRIES = 3
# Added to the contract's limit of a message for what gRPC puts around it.
_GRPC_MARGIN_BYTES = 64 * 1024
# How often a retry looks for a host that has not had the call. Of two replicas, one that is dead
# has the fewest calls, and one that has just come back has a small weight: nearly every look finds
# the dead one.
_SELECTIONS = 32
# HTTP statuses of the replica's HTTP door that another replica may not give.
ENGINE_FAILED = [500]
_COMPRESSED = HeaderMatcher(
    name="grpc-encoding",
    string_match=StringMatcher(safe_regex=RegexMatcher(regex="(identity)?")),
    invert_match=True,
    treat_missing_header_as_empty=True,
)
_CHALLENGERS = {
    names.CHAMPION: names.CHALLENGER,
    names.CHAMPION_UNARY: names.CHALLENGER_UNARY,
    # One cluster of two roles: no limit and no number is kept of the Challenger's part of it.
    names.CHAMPION_HTTP: names.CHAMPION_HTTP,
}


def whole_route(
    rule: Rule, topology: MeshTopology, models_told_apart: bool, from_complete: bool
) -> Route:
    """A rule's route for every model that has none of its own.

    `from_complete`: only replicas that answer for every model are asked.
    """
    route = _route(rule, topology)
    if models_told_apart:
        route.typed_per_filter_config.update(model_filters())
    if from_complete:
        assert route.route is not None
        route.route.metadata_match = _served(names.EVERY_MODEL)
    return route


def compressed_route(rule: Rule, topology: MeshTopology, from_complete: bool) -> Route:
    """A rule's route for messages that gRPC compressed, while any model has a route of its own.

    Envoy cannot read the model's name in them and would refuse them, so the Champion answers.
    """
    route = whole_route(rule, topology, models_told_apart=False, from_complete=from_complete)
    assert route.match is not None
    route.name = f"{route.name}, compressed"
    route.match.headers = [_COMPRESSED]
    return route


def model_routes(rule: Rule, topology: MeshTopology, traffic: ModelTraffic) -> Iterator[Route]:
    """A rule's routes for one model that is split or partly served."""
    if rule.model_field:
        match = RouteMatch(
            path=rule.path, dynamic_metadata=[asks_for(traffic.model, rule.model_field)]
        )
        route = _model_route(rule, topology, traffic, match, is_split=True)
        route.typed_per_filter_config.update(model_filters())
        yield route
        return
    if traffic.split.tries_challenger:
        regex = RegexMatcher(regex=rule.split_paths.format(traffic.model))
        yield _model_route(rule, topology, traffic, RouteMatch(safe_regex=regex), is_split=True)
    if traffic.answered_by is not AnsweredBy.EVERY:
        prefix = RouteMatch(path_separated_prefix=f"{rule.model_in_path}{traffic.model}")
        yield _model_route(rule, topology, traffic, prefix, is_split=False)


def _model_route(
    rule: Rule, topology: MeshTopology, traffic: ModelTraffic, match: RouteMatch, is_split: bool
) -> Route:
    route, model = _route(rule, topology), traffic.model
    assert route.route is not None
    # The two routes of one rule and model differ by their names.
    route.name = f"{route.name} of {model}" + (", infer" if is_split and rule.split_paths else "")
    route.match = match
    if traffic.answered_by is AnsweredBy.NONE:
        route.route, route.direct_response = None, _unserved(model)
        return route
    if traffic.split.tries_challenger and is_split:
        _split(route.route, rule, traffic.split)
    if traffic.answered_by is AnsweredBy.SOME:
        route.route.metadata_match = _served(model)
    return route


def _served(model: str) -> Metadata:
    """Choose among the endpoints that answer for a model."""
    return Metadata(filter_metadata={names.SUBSETS: struct({names.SERVES: model})})


def _unserved(model: str) -> DirectResponseAction:
    """Answer UNAVAILABLE, over HTTP 503."""
    text = f"no replica answers for {model} at present; `mesh status` says why"
    return DirectResponseAction(status=503, body=DataSource(inline_string=text))


def _split(action: RouteAction, rule: Rule, split: Split) -> None:
    """Split the traffic of a route between Champion and Challenger."""
    action.cluster = None
    challenger = _CHALLENGERS[rule.cluster]
    action.weighted_clusters = WeightedCluster(
        clusters=[
            _weighted(rule.cluster, names.CHAMPION_ROLE, split.champion),
            _weighted(challenger, names.CHALLENGER_ROLE, split.challenger),
        ],
        use_hash_policy=True,
    )
    # Equal keys get equal versions. Without the header Envoy chooses at random.
    action.hash_policy = [
        RouteActionHashPolicy(header=RouteActionHashPolicyHeader(header_name=names.KEY_HEADER))
    ]
    if split.mirror_percent and rule.mirrored:
        action.request_mirror_policies = [_mirror(challenger, split.mirror_percent)]


def asks_for(name: str, field: str) -> MetadataMatcher:
    """Match calls whose first message has this name in a field."""
    one_of = ListMatcher(one_of=ValueMatcher(string_match=StringMatcher(exact=name)))
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


def _route(rule: Rule, topology: MeshTopology) -> Route:
    max_body_bytes = topology.limits.max_body_bytes
    prefix = rule.path.endswith("/")
    action = RouteAction(
        cluster=rule.cluster,
        # Envoy counts calls by priority, so a fleet that is full of predictions still answers
        # questions about its state.
        priority=RoutingPriority.DEFAULT if rule.yields else RoutingPriority.HIGH,
        # 0 switches off Envoy's own timeout, which would ignore a client's shorter deadline.
        timeout=seconds(0),
        idle_timeout=seconds(rule.idle_s),
        max_stream_duration=_duration(rule.limit_s),
        retry_policy=_retry_policy(rule, topology.stalled_after_s),
        hedge_policy=HedgePolicy(hedge_on_per_try_timeout=True) if rule.hedged else None,
    )
    # The body of a call is whole before a replica sees any of it: bodies that never end take no
    # place there. Streams pass piece by piece.
    # There, a message that is too large is told its size.
    filters = {} if rule.limit_s is None else bounded(max_body_bytes + _GRPC_MARGIN_BYTES)
    if not rule.transcoded:
        filters = {names.TRANSCODER: OFF, **bounded(max_body_bytes)}
    return Route(
        name=rule.path.strip("/"),
        match=RouteMatch(prefix=rule.path) if prefix else RouteMatch(path=rule.path),
        route=action,
        request_headers_to_add=(
            [_header(names.STALLED_HEADER, str(round(topology.stalled_after_s * 1000)))]
            if rule.hedged
            else []
        ),
        typed_per_filter_config={**scope_check(topology.access, rule.path), **filters},
    )


def _duration(limit_s: float | None) -> RouteActionMaxStreamDuration:
    limit = seconds(limit_s or 0)
    # Envoy passes a client's deadline on in any case; 0 sets no limit to it.
    return RouteActionMaxStreamDuration(max_stream_duration=limit, grpc_timeout_header_max=limit)


def _retry_policy(rule: Rule, stalled_after_s: float) -> RetryPolicy:
    previous_hosts = RetryPolicyRetryHostPredicate(
        name="envoy.retry_host_predicates.previous_hosts",
        typed_config=Any.pack(PreviousHostsPredicate()),
    )
    return RetryPolicy(
        retry_on=rule.retry_on,
        per_try_timeout=seconds(stalled_after_s) if rule.hedged else None,
        num_retries=_NUM_RETRIES,
        # Only rules that name retriable-status-codes retry on these.
        retriable_status_codes=ENGINE_FAILED,
        retry_host_predicate=[previous_hosts],
        host_selection_retry_max_attempts=_SELECTIONS,
        retry_back_off=RetryPolicyRetryBackOff(
            base_interval=seconds(0.02), max_interval=seconds(0.2)
        ),
    )
