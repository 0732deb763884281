"""JSON through one port of a real Envoy."""

import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.integration.envoy.door_checks import PREDICT, assert_error
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")


LIMIT = 8 * 1024 * 1024


async def test_json_reaches_a_replica_with_defaults_printed(mesh: ToyMesh) -> None:
    response = await mesh.http.post(PREDICT, json={"texts": ["a"], "allScores": True})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["server"] == "mesh"
    assert response.headers["x-request-id"]
    assert response.json()["predictions"] == [
        {"label": "1", "score": 0.5, "scores": [], "truncated": False}
    ]


async def test_enums_are_printed_whole(mesh: ToyMesh) -> None:
    response = await mesh.http.post("/v1/models/reviews:train", json={"requestId": "a"})
    assert response.json()["state"] == "TRAINING_STATE_QUEUED"


@pytest.mark.parametrize(
    ("case", "body", "words"),
    [
        ("wrong type", {"texts": [{"a": 1}]}, "texts"),
        ("wrong bool", {"texts": ["a"], "allScores": "maybe"}, "all_scores"),
        ("no object", [1], "must be an object"),
        ("not JSON", b"hello", "is expected"),
        ("cut short", b'{"texts":["a"', "too early"),
        ("invalid UTF-8", b'{"texts":["\xff\xfe"]}', "UTF-8"),
        ("half a surrogate", b'{"texts":["\\ud800"]}', "surrogate"),
        ("nothing", b"", "texts"),
        ("no texts", {}, "texts"),
        ("blank text", {"texts": ["a", " "]}, "texts[1]"),
    ],
)
async def test_a_bad_body_is_400_and_says_what_is_wrong(
    mesh: ToyMesh, case: str, body: Any, words: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = await mesh.http.post(PREDICT, content=content)
    assert response.status_code == 400, case
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, words)


async def test_an_unknown_query_parameter_is_400(mesh: ToyMesh) -> None:
    response = await mesh.http.post(PREDICT, params={"foo": "1"}, json={"texts": ["a"]})
    assert response.status_code == 400
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "foo")


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_the_limit_is_413(mesh: ToyMesh, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(LIMIT // 65536):
            yield b" " * 65536
        yield b" "

    content = chunks() if chunked else b" " * (LIMIT + 1)
    response = await mesh.http.post(PREDICT, content=content)
    assert response.status_code == 413
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "8,388,608")


async def test_a_body_of_the_limit_is_taken(mesh: ToyMesh) -> None:
    body = b'{"texts":["a"]'
    response = await mesh.http.post(PREDICT, content=body + b" " * (LIMIT - len(body) - 1) + b"}")
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nope"),
        ("POST", "/v1/models/reviews:foo"),
        ("POST", "/mesh.v1.ReplicaService/GetState"),
    ],
)
async def test_what_no_method_answers_is_404(mesh: ToyMesh, method: str, path: str) -> None:
    response = await mesh.http.request(method, path)
    assert response.status_code == 404
    assert_error(response, grpc.StatusCode.NOT_FOUND, path)


@pytest.mark.parametrize("path", ["/v2", "/v2/models/reviews"])
async def test_without_http_listeners_v2_is_503_in_its_own_form(mesh: ToyMesh, path: str) -> None:
    response = await mesh.http.get(path)
    assert response.status_code == 503
    assert response.headers["content-type"] == "application/json"
    assert response.json() == {"error": "no healthy upstream"}


async def test_an_error_of_a_service_keeps_its_details(mesh: ToyMesh) -> None:
    response = await mesh.http.post("/v1/models/reviews:reload", json={})
    assert response.status_code == 409
    assert_error(response, grpc.StatusCode.ABORTED, "warm-up")
    detail = response.json()["details"][0]
    assert (detail["reason"], detail["metadata"]["step"]) == ("PREPARE_FAILED", "warm-up")
    response = await mesh.http.post("/v1/models/unknown:predict", json={"texts": ["a"]})
    assert response.status_code == 404
    assert_error(response, grpc.StatusCode.NOT_FOUND, "unknown")


async def test_a_deadline_that_passes_is_504_in_json(mesh: ToyMesh) -> None:
    response = await mesh.http.post(
        "/v1/models/slow:predict", json={"texts": ["a"]}, headers={"grpc-timeout": "200m"}
    )
    assert response.status_code == 504
    assert_error(response, grpc.StatusCode.DEADLINE_EXCEEDED, "")


async def test_headers_over_the_limit_are_431(mesh: ToyMesh) -> None:
    response = await mesh.http.get("/healthz", headers={"x-long": "a" * 70_000})
    assert response.status_code == 431
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "headers")


async def test_watch_training_arrives_line_by_line(mesh: ToyMesh) -> None:
    mesh.train.step.clear()
    async with mesh.http.stream("GET", "/v1/trainings/7:watch") as response:
        lines = response.aiter_lines()
        first = json.loads(await anext(lines))
        assert first["state"] == "TRAINING_STATE_RUNNING"
        mesh.train.step.set()
        assert json.loads(await anext(lines))["state"] == "TRAINING_STATE_SUCCEEDED"
