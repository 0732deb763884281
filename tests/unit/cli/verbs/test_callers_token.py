"""Which token the command sends to which mesh."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh_cli.load.plan.spec import ClosedLoop, LoadSpec, spec_from_json
from mesh_cli.load.wire.request_encoding import encode_requests
from mesh_cli.tokens.own_tokens import OwnTokens
from mesh_cli.verbs import context


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The operator's token of a mesh that was up once."""
    for name in ("MESH_TOKEN", "MESH_TOKEN_FILE", "MESH_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    (tmp_path / "secrets").mkdir()
    OwnTokens(tmp_path / "secrets").make()
    yield OwnTokens(tmp_path / "secrets").operator
    context.give_token(None)


@pytest.mark.parametrize("address", ["127.0.0.1:8000", "localhost:1", "[::1]:8000"])
def test_a_mesh_on_this_machine_gets_the_operators_token(operator: str, address: str) -> None:
    assert context.token(address) == operator


@pytest.mark.parametrize("address", ["mesh.example:8000", "10.0.0.7:8000", "localhost.evil:1"])
def test_no_other_machine_is_sent_the_operators_token(operator: str, address: str) -> None:
    assert context.token(address) == ""


def test_a_token_that_is_given_goes_before(
    operator: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "mine").write_text("of-the-file\n")
    monkeypatch.setenv("MESH_TOKEN_FILE", str(tmp_path / "mine"))
    assert context.token("mesh.example:8000") == "of-the-file"
    monkeypatch.setenv("MESH_TOKEN", "of-the-variable")
    assert context.token("127.0.0.1:8000") == "of-the-variable"
    context.give_token("given")
    assert context.token("127.0.0.1:8000") == "given"
    context.give_token("")
    assert context.token("127.0.0.1:8000") == ""


def test_without_any_token_calls_go_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_HOME", str(tmp_path))
    assert context.token("127.0.0.1:8000") == ""


def test_a_load_sends_its_token_with_every_request() -> None:
    spec = LoadSpec("a:1", "reviews", ClosedLoop(1), ("x", "y"), "json", token="t1")
    requests = encode_requests(spec_from_json(spec.to_json()))
    assert len(requests) == 2
    assert all(b"\r\nauthorization: Bearer t1\r\n" in request for request in requests)
    without = encode_requests(LoadSpec("a:1", "reviews", ClosedLoop(1), ("x",), "json"))
    assert b"authorization" not in without[0]
