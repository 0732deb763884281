"""The files that Envoy starts from, which a real Envoy accepts."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from control_plane.topology import Address, MeshTopology
from control_plane.xds import build_snapshot
from control_plane.xds.bootstrap import bootstrap, dynamic_bootstrap
from tests.unit.control_plane.envoy_check import check_envoy_accepts
from tests.unit.control_plane.topologies import (
    GUARDED,
    NAMES,
    SPLIT,
    TOKENS,
    TOPOLOGY,
    UNARY,
    WITH_ISSUER,
)


@pytest.mark.parametrize(
    "topology", [TOPOLOGY, NAMES, SPLIT, UNARY, replace(TOPOLOGY, replicas=())]
)
def test_envoy_accepts_the_configuration(topology: MeshTopology, tmp_path: Path) -> None:
    file = tmp_path / "envoy.pb"
    file.write_bytes(bootstrap(build_snapshot(topology)))
    check_envoy_accepts(file)


@pytest.mark.parametrize("topology", [GUARDED, WITH_ISSUER])
@pytest.mark.parametrize("revoked", [frozenset(), frozenset({"a", "b"})])
def test_envoy_accepts_who_may_call(
    topology: MeshTopology, revoked: frozenset[str], tmp_path: Path
) -> None:
    file = tmp_path / "envoy.pb"
    tokens = replace(TOKENS, revoked=revoked)
    file.write_bytes(bootstrap(build_snapshot(topology, tokens)))
    check_envoy_accepts(file)


def test_envoy_accepts_a_bootstrap_with_a_control_plane(tmp_path: Path) -> None:
    file = tmp_path / "envoy.pb"
    for host in ("127.0.0.1", "control-plane"):
        file.write_bytes(dynamic_bootstrap(Address(host, 1005), Address("127.0.0.1", 1), "n"))
        check_envoy_accepts(file)


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
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script.format(validated=validated)],
            capture_output=True,
            check=True,
            text=True,
        ).stdout.split()
        for validated in (False, True)
    ]
    assert [kind for kind, _ in outputs] == ["False", "True"]
    assert outputs[0][1] == outputs[1][1]
