"""Envoy's resources: pure, consistent, the same for the same description."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from envoy_data_plane.envoy.config.endpoint.v3 import ClusterLoadAssignment
from typer.testing import CliRunner

from control_plane.render import app
from control_plane.topology import Address, MeshTopology, Split
from control_plane.xds import InconsistentSnapshot, Snapshot, build_snapshot
from control_plane.xds.bootstrap import bootstrap, dynamic_bootstrap
from control_plane.xds.clusters.endpoints import Endpoints
from control_plane.xds.routes.route_rules import RULES
from tests.real_parts.envoy import envoy_binary

TOPOLOGY = MeshTopology(
    replicas=(Address("127.0.0.1", 1001), Address("127.0.0.1", 1002)),
    training=Address("127.0.0.1", 1003),
    trigger=Address("127.0.0.1", 1004),
    control_plane=Address("127.0.0.1", 1005),
)
NAMES = replace(
    TOPOLOGY,
    replicas=(Address("inference-1", 1001), Address("inference-2", 1001)),
    replicas_http=(Address("inference-1", 1002),),
    training=Address("training", 1003),
    allowed_origins=("https://ui.example", "*"),
    host="0.0.0.0",
)


def validate(file: Path) -> None:
    subprocess.run([envoy_binary(), "--mode", "validate", "-c", str(file)], check=True)


SPLIT = replace(TOPOLOGY, splits=(("reviews", Split(75, 20, 5)),))


UNARY = replace(SPLIT, replicas_unary=(Address("127.0.0.1", 1006), Address("127.0.0.1", 1007)))


@pytest.mark.parametrize(
    "topology", [TOPOLOGY, NAMES, SPLIT, UNARY, replace(TOPOLOGY, replicas=())]
)
def test_envoy_accepts_the_configuration(topology: MeshTopology, tmp_path: Path) -> None:
    file = tmp_path / "envoy.pb"
    file.write_bytes(bootstrap(build_snapshot(topology)))
    validate(file)


def test_envoy_accepts_a_bootstrap_with_a_control_plane(tmp_path: Path) -> None:
    file = tmp_path / "envoy.pb"
    for host in ("127.0.0.1", "control-plane"):
        file.write_bytes(dynamic_bootstrap(Address(host, 1005), Address("127.0.0.1", 1), "n"))
        validate(file)


def test_equal_descriptions_give_equal_bytes() -> None:
    assert bootstrap(build_snapshot(TOPOLOGY)) == bootstrap(build_snapshot(replace(TOPOLOGY)))


def test_another_replica_changes_its_endpoints_and_nothing_else_but_limits() -> None:
    before = build_snapshot(TOPOLOGY)
    after = build_snapshot(replace(TOPOLOGY, replicas=TOPOLOGY.replicas[::-1]))
    assert bytes(before.endpoints[0]) != bytes(after.endpoints[0])
    assert [bytes(c) for c in before.clusters] == [bytes(c) for c in after.clusters]
    assert bytes(before.routes[0]) == bytes(after.routes[0])
    assert bytes(before.listeners[0]) == bytes(after.listeners[0])


def test_another_http_listener_changes_its_endpoints_and_nothing_else() -> None:
    before = build_snapshot(TOPOLOGY)
    after = build_snapshot(replace(TOPOLOGY, replicas_http=(Address("127.0.0.1", 1006),)))
    changed = {
        new.cluster_name
        for old, new in zip(before.endpoints, after.endpoints, strict=True)
        if bytes(old) != bytes(new)
    }
    assert changed == {"champion-http"}
    assert before.clusters is after.clusters
    assert before.listeners[0] is after.listeners[0]
    assert before.routes[0] is after.routes[0]


def test_unary_calls_go_over_http1_when_every_replica_takes_them() -> None:
    some = replace(UNARY, replicas_unary=UNARY.replicas_unary[:1])
    leads = {
        name: clusters
        for name, clusters in build_snapshot(UNARY).routes[0].targets.items()
        if clusters != build_snapshot(some).routes[0].targets[name]
    }
    split = frozenset({"champion-unary", "challenger-unary"})
    assert leads == {
        "mesh.v1.PredictService/Predict": {"champion-unary"},
        "mesh.v1.PredictService/Predict of reviews": split,
        "inference.GRPCInferenceService/ModelInfer": {"champion-unary"},
        "inference.GRPCInferenceService/ModelInfer of reviews": split,
    }


def test_endpoints_are_encoded_as_their_message_would_be() -> None:
    many = tuple(Address("10.0.0.1", 1000 + n) for n in range(100))
    for addresses in ((), many[:1], many):
        endpoints = Endpoints("champion", addresses)
        assert ClusterLoadAssignment.parse(bytes(endpoints)) == endpoints.message()


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


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:80", "127.0.0.1", 80), ("[::1]:80", "::1", 80), ("a.b:80", "a.b", 80)],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize("text", ["", "80", ":80", "a:", "a:0", "a:65536", "a:x"])
def test_a_malformed_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        Address.parse(text)


def test_envoy_listens_on_an_ip_address_only() -> None:
    with pytest.raises(ValueError, match="not an IP address"):
        replace(TOPOLOGY, host="localhost")


SERVICES = ["--training=t:1", "--trigger=d:1", "--control-plane=c:1"]


def test_render_writes_a_file_that_envoy_accepts(tmp_path: Path) -> None:
    out = tmp_path / "envoy.pb"
    replicas = ["--replica=127.0.0.1:1", "--replica=127.0.0.1:2"]
    result = CliRunner().invoke(
        app, ["static", *replicas, *SERVICES, "--port=18000", f"--out={out}"]
    )
    assert result.exit_code == 0, result.output
    assert [path.name for path in tmp_path.iterdir()] == ["envoy.pb"]
    validate(out)


def test_render_writes_a_bootstrap_that_envoy_accepts(tmp_path: Path) -> None:
    out = tmp_path / "envoy.pb"
    arguments = ["dynamic", "--control-plane=control-plane:1", f"--out={out}"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    validate(out)


@pytest.mark.parametrize("wrong", [["--replica=nowhere"], ["--replica=a:1", "--host=localhost"]])
def test_render_names_what_is_wrong(wrong: list[str], tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app, ["static", *wrong, *SERVICES, f"--out={tmp_path / 'envoy.pb'}"]
    )
    assert result.exit_code == 2
    assert not list(tmp_path.iterdir())


def test_messages_without_validators_encode_to_the_same_bytes() -> None:
    script = """\
import contextlib, sys, types
from hashlib import sha256

if {validated}:
    fake = types.SimpleNamespace(lean_messages=contextlib.nullcontext)
    sys.modules["control_plane.xds.basics.lean_messages"] = fake

from control_plane.topology import Address, MeshTopology, Split
from control_plane.xds import build_snapshot
from control_plane.xds.bootstrap import Bootstrap, bootstrap, dynamic_bootstrap

one = Address("127.0.0.1", 1)
splits = (("reviews", Split(75, 20, 5)),)
topology = MeshTopology(
    (one,), one, one, one, (one,), (one,), splits=splits, allowed_origins=("*",)
)
made = bootstrap(build_snapshot(topology)) + dynamic_bootstrap(one, one, "node")
print(hasattr(Bootstrap, "__pydantic_validator__"), sha256(made).hexdigest())
"""
    found = [
        subprocess.run(
            [sys.executable, "-c", script.format(validated=validated)],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for validated in (False, True)
    ]
    assert [kind for kind, _ in found] == ["False", "True"]
    assert found[0][1] == found[1][1]
