"""The token that goes with every call of the client."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc import aio

from mesh.client import AsyncMeshClient, MeshClient
from mesh.errors import MeshError
from mesh.v1 import predict_pb2

Seen = list[tuple[str, str]]


class NotesTokens(grpc.GenericRpcHandler):
    """Answers nothing and notes the method and `authorization` of each call."""

    def __init__(self) -> None:
        self.seen: Seen = []

    def service(self, details: grpc.HandlerCallDetails) -> None:
        headers = dict(details.invocation_metadata)
        self.seen.append((details.method.rpartition("/")[2], str(headers.get("authorization", ""))))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Seen]]:
    for name in ("MESH_TOKEN", "MESH_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    notes = NotesTokens()
    running = grpc.server(ThreadPoolExecutor(2), handlers=[notes])
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield f"127.0.0.1:{port}", notes.seen
    running.stop(None).wait()


def call(client: MeshClient) -> None:
    with pytest.raises(MeshError):
        client.predict("reviews", "a")


def test_every_kind_of_call_carries_the_token(server: tuple[str, Seen]) -> None:
    address, seen = server
    with MeshClient(address, token="t1") as client:
        call(client)
        with pytest.raises(MeshError):
            client.import_examples("reviews", [])
        with pytest.raises(MeshError):
            list(client.watch_training("1"))
        with pytest.raises(MeshError):
            list(client.predict_stream([predict_pb2.PredictRequest(id="1")]))
    assert set(seen) == {
        (method, "Bearer t1")
        for method in ("Predict", "ImportExamples", "WatchTraining", "PredictStream")
    }


async def test_the_async_client_sends_it_over_a_given_channel_too(
    server: tuple[str, Seen],
) -> None:
    address, seen = server
    async with AsyncMeshClient(channel=aio.insecure_channel(address), token="t1") as client:
        with pytest.raises(MeshError):
            await client.predict("reviews", "a")
        with pytest.raises(MeshError):
            [job async for job in client.watch_training("1")]
    assert set(seen) == {("Predict", "Bearer t1"), ("WatchTraining", "Bearer t1")}


def test_the_environment_gives_a_token_and_the_caller_goes_before(
    server: tuple[str, Seen], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, seen = server
    file = tmp_path / "token"
    file.write_text("from-file\n")
    with MeshClient(address) as client:
        call(client)
    monkeypatch.setenv("MESH_TOKEN_FILE", str(file))
    with MeshClient(address) as client:
        call(client)
    monkeypatch.setenv("MESH_TOKEN", "from-variable")
    with MeshClient(address) as client:
        call(client)
    with MeshClient(address, token="given") as client:
        call(client)
    with MeshClient(address, token="") as client:
        call(client)
    assert [token for _, token in seen] == [
        "",
        "Bearer from-file",
        "Bearer from-variable",
        "Bearer given",
        "",
    ]


def test_a_file_is_read_again_when_it_has_changed(
    server: tuple[str, Seen], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, seen = server
    file = tmp_path / "token"
    file.write_text("first")
    monkeypatch.setenv("MESH_TOKEN_FILE", str(file))
    with MeshClient(address) as client:
        call(client)
        file.write_text("second-token")
        call(client)
    assert [token for _, token in seen] == ["Bearer first", "Bearer second-token"]


@pytest.mark.parametrize("text", ["two words", "a\nx-mesh-scopes: release", "ü"])
def test_text_that_is_no_token_is_refused_before_it_is_sent(text: str) -> None:
    with pytest.raises(ValueError, match="one word of printable ASCII"):
        MeshClient("127.0.0.1:1", token=text)


def test_a_file_that_is_not_there_is_named(
    server: tuple[str, Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MESH_TOKEN_FILE", "/nowhere/token")
    with MeshClient(server[0]) as client, pytest.raises(ValueError, match="/nowhere/token"):
        client.predict("reviews", "a")
