"""HTTP/1.0 is taken: a proxy in front speaks it with its default settings, and so does `ab`."""

import json

import pytest

from tests.integration.doors.raw_http import answer_to, exchange
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b'{"texts":["a"]}'


@pytest.mark.parametrize("host", [b"", b"Host: mesh\r\n"])
async def test_a_question_with_or_without_host_is_answered(mesh: ToyMesh, host: bytes) -> None:
    answer = await answer_to(mesh, b"GET /v1/models/reviews HTTP/1.0\r\n" + host + b"\r\n")
    assert (answer.version, answer.status) == ("HTTP/1.0", 200)
    assert json.loads(answer.body)["name"] == "reviews"


async def test_a_body_is_read(mesh: ToyMesh) -> None:
    head = b"POST /v1/models/reviews:predict HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    answer = await answer_to(mesh, head + BODY)
    assert answer.status == 200
    assert len(json.loads(answer.body)["predictions"]) == 1


async def test_a_connection_is_kept_for_who_asks(mesh: ToyMesh) -> None:
    first = b"GET /v1/models/reviews HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    received = await exchange(mesh, first + b"GET /v1/models/reviews HTTP/1.0\r\n\r\n")
    assert received.count(b"HTTP/1.0 200 OK") == 2
    assert received.count(b"connection: keep-alive") == 1


async def test_a_stream_is_not_chunked_and_ends_with_the_connection(mesh: ToyMesh) -> None:
    mesh.train.step.set()
    answer = await answer_to(mesh, b"GET /v1/trainings/7:watch HTTP/1.0\r\n\r\n")
    assert "transfer-encoding" not in answer.headers
    states = [json.loads(line)["state"] for line in answer.body.splitlines()]
    assert states == ["TRAINING_STATE_RUNNING", "TRAINING_STATE_SUCCEEDED"]


async def test_an_error_is_the_contracts(mesh: ToyMesh) -> None:
    answer = await answer_to(mesh, b"GET /nope HTTP/1.0\r\n\r\n")
    assert answer.status == 404
    assert "/nope" in answer.words
