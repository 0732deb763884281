"""gRPC, JSON and gRPC-Web through one port of a real Envoy."""

import asyncio
import base64
import json
import struct
import uuid
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from mesh.v1 import (
    data_pb2,
    data_pb2_grpc,
    predict_pb2,
    predict_pb2_grpc,
    reload_pb2,
    reload_pb2_grpc,
)
from tests.twins.toy_mesh import ToyMesh, running_mesh
from tests.twins.toy_services import PUBLIC

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREDICT = "/v1/models/reviews:predict"
LIMIT = 8 * 1024 * 1024


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=[True, False], ids=["http1", "http2"]
)
async def mesh(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> AsyncIterator[ToyMesh]:
    folder, origins = tmp_path_factory.mktemp("envoy"), ("https://ui.example",)
    async with running_mesh(folder, origins, over_http1=request.param) as running:
        yield running


def predict_stub(mesh: ToyMesh) -> Any:
    return predict_pb2_grpc.PredictServiceStub(mesh.channel)


def request(model: str = "reviews", *texts: str) -> predict_pb2.PredictRequest:
    return predict_pb2.PredictRequest(model=model, texts=texts or ("a",))


async def test_grpc_reaches_a_replica(mesh: ToyMesh) -> None:
    answer = await predict_stub(mesh).Predict(request("reviews", "a", "bb"), timeout=5)
    assert [prediction.label for prediction in answer.predictions] == ["1", "2"]


async def test_calls_of_one_connection_go_to_every_replica(mesh: ToyMesh) -> None:
    answers = await asyncio.gather(
        *(predict_stub(mesh).Predict(request(), timeout=5) for _ in range(64))
    )
    assert {answer.replica for answer in answers} == {"r1", "r2"}


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
        ("no object", [1], "must be a message"),
        ("not JSON", b"hello", "Unexpected token"),
        ("cut short", b'{"texts":["a"', "Unexpected end"),
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
        ("GET", PREDICT),
        ("DELETE", "/v1/models/reviews"),
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


async def test_a_grpc_client_gets_envoys_error_in_plain_words(mesh: ToyMesh) -> None:
    call: Any = mesh.channel.unary_unary("/mesh.v1.ReplicaService/GetState")
    with pytest.raises(aio.AioRpcError) as error:
        await call(b"", timeout=5)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.value.details() == "there is no such method"


async def test_a_large_grpc_message_gets_the_services_answer(mesh: ToyMesh) -> None:
    texts = ["a" * 32_000] * 655
    with pytest.raises(aio.AioRpcError) as error:
        await predict_stub(mesh).Predict(request("reviews", *texts), timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "8,388,608" in (error.value.details() or "")


async def test_a_clients_deadline_reaches_the_replica(mesh: ToyMesh) -> None:
    answer = await predict_stub(mesh).Predict(request(), timeout=20)
    left = seconds_left(mesh, answer.replica)
    assert 5 < left < 20.5  # rounded up by Envoy


async def test_a_long_deadline_is_cut_to_the_limit_of_the_method(mesh: ToyMesh) -> None:
    answer = await predict_stub(mesh).Predict(request(), timeout=3600)
    assert 25 < seconds_left(mesh, answer.replica) < 31
    response = await mesh.http.post(PREDICT, json={"texts": ["a"]})
    assert 25 < seconds_left(mesh, response.json()["replica"]) < 31


async def test_a_streams_deadline_is_its_own(mesh: ToyMesh) -> None:
    call = predict_stub(mesh).PredictStream(timeout=7200)
    await call.write(predict_pb2.PredictRequest(id="1"))
    assert (await call.read()).id == "1"
    # Long deadlines travel in whole minutes or so.
    assert any(7000 < (r.stream_seconds_left or 0) < 7400 for r in mesh.replicas)
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_cannot_choose_the_role(mesh: ToyMesh) -> None:
    metadata = (("x-mesh-role", "challenger"), ("x-mesh-key", "k"))
    answer = await predict_stub(mesh).Predict(request(), timeout=5, metadata=metadata)
    seen = next(r for r in mesh.replicas if r.replica == answer.replica).metadata
    assert "x-mesh-role" not in seen
    assert seen["x-mesh-key"] == "k"


async def test_watch_training_arrives_line_by_line(mesh: ToyMesh) -> None:
    mesh.train.step.clear()
    async with mesh.http.stream("GET", "/v1/trainings/7:watch") as response:
        lines = response.aiter_lines()
        first = json.loads(await anext(lines))
        assert first["state"] == "TRAINING_STATE_RUNNING"
        mesh.train.step.set()
        assert json.loads(await anext(lines))["state"] == "TRAINING_STATE_SUCCEEDED"


async def test_an_import_streams_through(mesh: ToyMesh) -> None:
    async def pieces() -> AsyncIterator[data_pb2.ImportExamplesRequest]:
        for _ in range(20):
            examples = [data_pb2.Example(text="a" * 1000, label="x")] * 1000
            yield data_pb2.ImportExamplesRequest(examples=examples)

    stub: Any = data_pb2_grpc.DataServiceStub(mesh.channel)
    assert (await stub.ImportExamples(pieces(), timeout=20)).rows.train == 20_000


@pytest.mark.parametrize("text", [False, True])
async def test_grpc_web_reaches_a_replica(mesh: ToyMesh, text: bool) -> None:
    body = frame(request("reviews", "abc").SerializeToString())
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    response = await mesh.http.post(
        "/mesh.v1.PredictService/Predict",
        content=base64.b64encode(body) if text else body,
        headers={"content-type": kind, "accept": kind, "x-grpc-web": "1"},
    )
    assert response.headers["content-type"].startswith("application/grpc-web")
    content = decoded(response.content) if text else response.content
    (flag, message), (trailer_flag, trailers) = frames(content)
    assert (flag, trailer_flag) == (0, 0x80)
    assert predict_pb2.PredictResponse.FromString(message).predictions[0].label == "3"
    assert b"grpc-status:0" in trailers


async def test_a_grpc_web_error_is_a_grpc_status(mesh: ToyMesh) -> None:
    response = await mesh.http.post(
        "/mesh.v1.ReplicaService/GetState",
        content=frame(b""),
        headers={"content-type": "application/grpc-web+proto"},
    )
    assert response.headers["content-type"].startswith("application/grpc-web")
    assert response.headers["grpc-status"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0])
    assert response.headers["grpc-message"] == "there is no such method"


async def test_only_allowed_origins_may_call_from_a_browser(mesh: ToyMesh) -> None:
    async def preflight(origin: str) -> Any:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        response = await mesh.http.options("/mesh.v1.PredictService/Predict", headers=headers)
        return response.headers.get("access-control-allow-origin")

    assert await preflight("https://ui.example") == "https://ui.example"
    assert await preflight("https://other.example") is None


async def test_health_comes_from_the_replicas(mesh: ToyMesh) -> None:
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel)
    check = health_pb2.HealthCheckRequest(service="mesh.v1.PredictService")
    answer = await stub.Check(check, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (await mesh.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_names_every_public_service(mesh: ToyMesh, version: str) -> None:
    call = mesh.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
    answers = [answer async for answer in call]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert set(PUBLIC) <= listed


async def test_the_access_log_is_json_without_queries(mesh: ToyMesh) -> None:
    request_id = str(uuid.uuid4())
    headers = {"x-request-id": request_id, "user-agent": "log-test"}
    await mesh.http.post(PREDICT, params={"token": "secret"}, json={}, headers=headers)
    entry = await logged(mesh, request_id)
    assert entry["path"] == PREDICT
    assert (entry["method"], entry["status"], entry["user_agent"]) == ("POST", 400, "log-test")
    assert isinstance(entry["duration_ms"], int)
    assert "secret" not in mesh.envoy.access_log.read_text()
    request_id = str(uuid.uuid4())
    metadata = (("x-request-id", request_id),)
    await predict_stub(mesh).Predict(request(), timeout=5, metadata=metadata)
    entry = await logged(mesh, request_id)
    assert entry["grpc_status"] == "OK"
    assert entry["path"] == "/mesh.v1.PredictService/Predict"
    assert entry["upstream"] in mesh.upstreams


async def test_reload_is_answered_over_grpc_with_details(mesh: ToyMesh) -> None:
    stub: Any = reload_pb2_grpc.ReloadServiceStub(mesh.channel)
    with pytest.raises(aio.AioRpcError) as error:
        await stub.Reload(reload_pb2.ReloadRequest(model="reviews"), timeout=5)
    assert error.value.code() is grpc.StatusCode.ABORTED
    assert "grpc-status-details-bin" in dict(error.value.trailing_metadata() or ())


async def test_envoy_itself_logs_no_warning(mesh: ToyMesh) -> None:
    assert mesh.envoy.log.read_text() == ""


def assert_error(response: Any, code: grpc.StatusCode, words: str) -> None:
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert set(body) == {"code", "message", "details"}
    assert body["code"] == code.value[0]
    assert isinstance(body["details"], list)
    assert words in body["message"]


def seconds_left(mesh: ToyMesh, replica: str) -> float:
    left = next(r for r in mesh.replicas if r.replica == replica).seconds_left
    assert left is not None
    return left


async def logged(mesh: ToyMesh, request_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            for line in mesh.envoy.access_log.read_text().splitlines():
                if request_id in line and line.endswith("}"):
                    entry: dict[str, Any] = json.loads(line)
                    return entry
            await asyncio.sleep(0.02)


def frame(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def frames(content: bytes) -> list[tuple[int, bytes]]:
    found = []
    while content:
        flag, size = struct.unpack(">BI", content[:5])
        found.append((flag, content[5 : 5 + size]))
        content = content[5 + size :]
    return found


def decoded(text: bytes) -> bytes:
    """grpc-web-text is a row of padded base64 pieces."""
    return b"".join(base64.b64decode(text[start : start + 4]) for start in range(0, len(text), 4))
