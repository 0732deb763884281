"""Envoy's resources: pure, consistent, the same for the same description."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment

from control_plane.topology import Address
from control_plane.xds import InconsistentSnapshot, Snapshot, build_snapshot
from control_plane.xds.bootstrap import bootstrap
from control_plane.xds.clusters.endpoints import Endpoints
from control_plane.xds.routes.route_rules import RULES
from service_kit.unary_over_http1.slow_calls import STALLED_HEADER
from tests.unit.control_plane.topologies import SPLIT, TOPOLOGY, UNARY


def test_equal_descriptions_give_equal_bytes() -> None:
    assert bootstrap(build_snapshot(TOPOLOGY)) == bootstrap(build_snapshot(replace(TOPOLOGY)))


def changed_endpoints(before: Snapshot, after: Snapshot) -> set[str]:
    """Clusters whose endpoints differ."""
    return {
        new.cluster_name
        for old, new in zip(before.endpoints, after.endpoints, strict=True)
        if bytes(old) != bytes(new)
    }


def test_another_replica_changes_its_endpoints_and_nothing_else_but_limits() -> None:
    before = build_snapshot(TOPOLOGY)
    third = Address("127.0.0.1", 1006)
    after = build_snapshot(replace(TOPOLOGY, replicas=(*TOPOLOGY.replicas, third)))
    assert changed_endpoints(before, after) == {"champion", "challenger"}
    assert [bytes(c) for c in before.clusters] == [bytes(c) for c in after.clusters]
    assert bytes(before.routes[0]) == bytes(after.routes[0])
    assert bytes(before.listeners[0]) == bytes(after.listeners[0])


def test_another_http_listener_changes_its_endpoints_and_nothing_else() -> None:
    before = build_snapshot(TOPOLOGY)
    after = build_snapshot(replace(TOPOLOGY, replicas_http=(Address("127.0.0.1", 1006),)))
    assert changed_endpoints(before, after) == {"champion-http"}
    assert before.clusters is after.clusters
    assert before.listeners[0] is after.listeners[0]
    assert before.routes[0] is after.routes[0]


def test_unary_calls_go_over_http1_when_every_replica_takes_them() -> None:
    some = replace(UNARY, replicas_unary=UNARY.replicas_unary[:1])
    leads_elsewhere = {
        name: clusters
        for name, clusters in build_snapshot(UNARY).routes[0].targets.items()
        if clusters != build_snapshot(some).routes[0].targets[name]
    }
    split = frozenset({"champion-unary", "challenger-unary"})
    assert leads_elsewhere == {
        "mesh.v1.PredictService/Predict": {"champion-unary"},
        "mesh.v1.PredictService/Predict, compressed": {"champion-unary"},
        "mesh.v1.PredictService/Predict of reviews": split,
        "inference.GRPCInferenceService/ModelInfer": {"champion-unary"},
        "inference.GRPCInferenceService/ModelInfer, compressed": {"champion-unary"},
        "inference.GRPCInferenceService/ModelInfer of reviews": split,
    }


def test_endpoints_are_encoded_as_their_message_would_be() -> None:
    many = tuple(Address("10.0.0.1", 1000 + n) for n in range(100))
    for addresses in ((), many[:1], many):
        endpoints = Endpoints("champion", addresses, {many[0]: ("films", "*"), many[7]: ("a",)})
        assert ClusterLoadAssignment.parse(bytes(endpoints)) == endpoints.message()


def test_a_partly_served_model_changes_endpoints_and_routes_and_no_cluster() -> None:
    first, second = UNARY.replicas
    unary_of_first = UNARY.replicas_unary[0]
    lacking = replace(UNARY, partly_served=(("films", frozenset({first, unary_of_first})),))
    before, after = build_snapshot(UNARY), build_snapshot(lacking)
    assert before.clusters is after.clusters
    assert before.listeners[0] is after.listeners[0]
    assert changed_endpoints(before, after) == {
        *("champion", "challenger", "champion-unary", "challenger-unary")
    }
    added = after.routes[0].targets.keys() - before.routes[0].targets.keys()
    assert added == {
        "mesh.v1.PredictService/PredictStream of films",
        "mesh.v1.PredictService/Predict of films",
        "inference.GRPCInferenceService/ModelInfer of films",
        "v2 of films",
    }
    served = {endpoint.cluster_name: endpoint.serves for endpoint in after.endpoints}
    assert served["champion"][first] == ("films", "*")
    assert served["champion"][second] == ()


def test_questions_about_all_models_go_to_replicas_that_answer_for_all() -> None:
    films, songs = frozenset(UNARY.replicas[:1]), frozenset(UNARY.replicas[1:])

    def asked(*partly_served: tuple[str, frozenset[Address]]) -> Any:
        snapshot = build_snapshot(replace(TOPOLOGY, partly_served=partly_served))
        (host,) = snapshot.routes[0].message().virtual_hosts
        (route,) = (r for r in host.routes if r.name == "mesh.v1.PredictService")
        assert route.route is not None
        return route.route.metadata_match

    assert asked(("films", films)) is not None
    # No replica answers for all, or for any: then every replica is asked.
    assert asked(("films", films), ("songs", songs)) is None
    assert asked(("films", frozenset())) is None


def test_a_model_may_be_split_and_partly_served() -> None:
    some = frozenset({UNARY.replicas[0], UNARY.replicas_unary[0]})
    snapshot = build_snapshot(replace(UNARY, partly_served=(("reviews", some),)))
    (host,) = snapshot.routes[0].message().virtual_hosts
    routes = {route.name: route.route for route in host.routes}
    predict, over_http = (
        routes["mesh.v1.PredictService/Predict of reviews"],
        routes["v2 of reviews"],
    )
    assert predict is not None
    assert over_http is not None
    assert predict.weighted_clusters is not None
    assert predict.metadata_match is not None
    assert over_http.metadata_match == predict.metadata_match


def test_a_model_that_no_replica_answers_for_leads_nowhere() -> None:
    snapshot = build_snapshot(replace(UNARY, partly_served=(("films", frozenset()),)))
    assert snapshot.routes[0].targets["mesh.v1.PredictService/Predict of films"] == frozenset()


def test_the_delay_of_a_second_call_is_told_to_envoy_and_to_the_replica() -> None:
    snapshot = build_snapshot(replace(UNARY, stalled_after_s=2.5))
    (host,) = snapshot.routes[0].message().virtual_hosts
    (route,) = (r for r in host.routes if r.name == "mesh.v1.PredictService/Predict")
    assert route.route is not None
    assert route.route.retry_policy is not None
    assert route.route.retry_policy.per_try_timeout == timedelta(seconds=2.5)
    header = route.request_headers_to_add[0].header
    assert header is not None
    assert (header.key, header.value) == (STALLED_HEADER.decode(), "2500")


def test_the_limit_of_calls_grows_with_the_fleet_but_has_a_floor() -> None:
    def calls(replicas: int) -> int:
        addresses = tuple(Address("127.0.0.1", 1000 + number) for number in range(replicas))
        return build_snapshot(replace(TOPOLOGY, replicas=addresses)).runtime.replica_calls

    assert [calls(replicas) for replicas in (0, 1, 2, 3, 10)] == [128, 128, 128, 192, 640]


def test_more_requests_may_wait_while_a_version_is_prepared() -> None:
    before, after = build_snapshot(TOPOLOGY), build_snapshot(replace(TOPOLOGY, preparing=True))
    assert after.runtime.replica_calls == 4 * before.runtime.replica_calls
    assert before.clusters is after.clusters
    assert before.listeners[0] is after.listeners[0]
    assert bytes(before.routes[0]) == bytes(after.routes[0])


def test_a_split_changes_routes_and_nothing_else() -> None:
    before, after = build_snapshot(SPLIT), build_snapshot(replace(SPLIT, splits=()))
    assert bytes(before.routes[0]) != bytes(after.routes[0])
    assert changed_endpoints(before, after) == set()
    assert bytes(before.runtime) == bytes(after.runtime)
    assert before.clusters is after.clusters
    assert before.listeners[0] is after.listeners[0]


def test_a_route_to_an_unknown_cluster_is_refused() -> None:
    snapshot = build_snapshot(TOPOLOGY)
    with pytest.raises(InconsistentSnapshot, match=r"unknown cluster training"):
        replace(snapshot, clusters=tuple(c for c in snapshot.clusters if c.name != "training"))


def test_a_discovered_cluster_without_endpoints_is_refused() -> None:
    with pytest.raises(
        InconsistentSnapshot,
        match="endpoints are missing: challenger, challenger-unary, champion, ",
    ):
        replace(build_snapshot(TOPOLOGY), endpoints=())


def test_a_listener_without_its_routes_is_refused() -> None:
    with pytest.raises(InconsistentSnapshot, match="routes are missing: mesh"):
        replace(build_snapshot(TOPOLOGY), routes=())


def test_endpoints_that_nobody_asks_for_are_refused() -> None:
    snapshot = build_snapshot(TOPOLOGY)
    with pytest.raises(InconsistentSnapshot, match="nobody asks for endpoints champion"):
        Snapshot(
            runtime=snapshot.runtime,
            clusters=tuple(c for c in snapshot.clusters if c.name != "champion"),
            endpoints=snapshot.endpoints,
            listeners=snapshot.listeners,
            routes=snapshot.routes,
            node_id="n",
            admin=snapshot.admin,
        )


def test_two_clusters_of_one_name_are_refused() -> None:
    snapshot = build_snapshot(TOPOLOGY)
    with pytest.raises(InconsistentSnapshot, match="share a name"):
        replace(snapshot, clusters=(*snapshot.clusters, snapshot.clusters[0]))


def test_internal_services_have_no_route() -> None:
    assert not [rule for rule in RULES if "ReplicaService" in rule.path]


def test_long_streams_have_no_limit_of_time() -> None:
    unlimited = {rule.path.rsplit("/", 1)[1] for rule in RULES if rule.limit_s is None}
    assert {"PredictStream", "WatchTraining", "ImportExamples", "Watch"} <= unlimited
