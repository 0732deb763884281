"""The Open Inference Protocol v2 over gRPC and HTTP, through a real Envoy."""

import json
import uuid
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from inference import open_inference_pb2 as pb
from inference_svc.main import REFLECTED
from mesh.v1 import replica_pb2, replica_pb2_grpc
from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")

LIMIT = 8 * 1024 * 1024
INFER = "/v2/models/reviews/infer"
BODY = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}


def request(*texts: bytes, model: str = "reviews", **fields: Any) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(bytes_contents=texts)
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text", datatype="BYTES", shape=[len(texts)], contents=contents
    )
    return pb.ModelInferRequest(model_name=model, inputs=[tensor], **fields)


async def failure(call: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    return failed.value.code(), failed.value.details() or ""


async def test_grpc_answers_with_labels_and_scores(mesh: OneReplica) -> None:
    answer = await mesh.stub.ModelInfer(request(b"a film", b"good", id="7"), timeout=5)
    assert (answer.model_name, answer.model_version, answer.id) == ("reviews", "1", "7")
    parameters = {name: value.string_param for name, value in answer.parameters.items()}
    assert parameters == {"version": "1", "alias": "Champion", "replica": "replica-1"}
    label, score, scores, truncated = answer.outputs
    assert (label.datatype, list(label.shape)) == ("BYTES", [2])
    assert list(label.contents.bytes_contents) == [b"good", b"good"]
    assert (score.datatype, list(score.shape)) == ("FP32", [2])
    assert list(score.contents.fp32_contents) == [0.75, 0.75]
    assert list(scores.shape) == [2, 2]
    assert list(scores.contents.fp32_contents) == [0.25, 0.75, 0.25, 0.75]
    assert json.loads(scores.parameters["labels"].string_param) == ["bad", "good"]
    assert (truncated.datatype, list(truncated.shape)) == ("BOOL", [2])
    assert list(truncated.contents.bool_contents) == [False, False]
    assert not answer.raw_output_contents


@pytest.mark.parametrize(
    ("changed", "code", "problem"),
    [
        (request(b"a", model="Reviews"), grpc.StatusCode.INVALID_ARGUMENT, "model_name: 'Reviews'"),
        (request(), grpc.StatusCode.INVALID_ARGUMENT, "text: has 0 texts"),
        (request(*[b"a"] * 1025), grpc.StatusCode.INVALID_ARGUMENT, "text: has 1,025 texts"),
        (request(b"a", b" "), grpc.StatusCode.INVALID_ARGUMENT, "text[1]: is blank"),
        (request(b"a" * 32_769), grpc.StatusCode.INVALID_ARGUMENT, "text[0]: has 32,769"),
        (request(b"\xff"), grpc.StatusCode.INVALID_ARGUMENT, "text[0]: is not UTF-8"),
        (request(b"a", raw_input_contents=[b"x"]), grpc.StatusCode.INVALID_ARGUMENT, "raw_input"),
        (request(b"a", model_version="9"), grpc.StatusCode.NOT_FOUND, "version '9' of reviews"),
        (request(b"a", model="other"), grpc.StatusCode.NOT_FOUND, "there is no model other"),
        (request(b"a", model="news"), grpc.StatusCode.FAILED_PRECONDITION, "train one first"),
    ],
)
async def test_a_bad_grpc_request_is_told_what_is_wrong(
    mesh: OneReplica, changed: pb.ModelInferRequest, code: grpc.StatusCode, problem: str
) -> None:
    status, details = await failure(mesh.stub.ModelInfer(changed, timeout=5))
    assert status is code
    assert problem in details


async def test_only_served_models_and_versions_are_ready(mesh: OneReplica) -> None:
    assert (await mesh.stub.ServerReady(pb.ServerReadyRequest(), timeout=5)).ready
    for model, version, ready in (
        ("reviews", "", True),
        ("reviews", "1", True),
        ("reviews", "9", False),
        ("news", "", False),
        ("other", "", False),
    ):
        request_ = pb.ModelReadyRequest(name=model, version=version)
        assert (await mesh.stub.ModelReady(request_, timeout=5)).ready is ready
        path = f"/v2/models/{model}" + (f"/versions/{version}" if version else "")
        assert (await mesh.http.get(f"{path}/ready")).is_success is ready


async def test_a_split_models_calls_reach_its_challenger(mesh: OneReplica) -> None:
    answer = await mesh.stub.ModelInfer(request(b"a", model="films"), timeout=5)
    assert (answer.model_version, answer.parameters["alias"].string_param) == ("2", "Challenger")
    named = await mesh.stub.ModelInfer(request(b"a", model="films", model_version="1"), timeout=5)
    assert named.model_version == "1"
    over_http = await mesh.http.post("/v2/models/films/infer", json=BODY)
    assert over_http.json()["model_version"] == "2"


async def test_the_access_log_tells_who_answered(mesh: OneReplica) -> None:
    ids = [str(uuid.uuid4()) for _ in range(3)]
    metadata = (("x-request-id", ids[0]),)
    await mesh.stub.ModelInfer(request(b"a", model="films"), timeout=5, metadata=metadata)
    await mesh.http.post("/v2/models/films/infer", json=BODY, headers={"x-request-id": ids[1]})
    await mesh.http.get("/v2/health/live", headers={"x-request-id": ids[2]})
    logged = await mesh.envoy.logged(ids)
    names = ("model", "version", "alias", "replica")
    assert [[logged[i][name] for name in names] for i in ids] == [
        ["films", "2", "Challenger", "replica-1"],
        ["films", "2", "Challenger", "replica-1"],
        [""] * 4,
    ]


async def test_http_answers_in_json(mesh: OneReplica) -> None:
    answer = await mesh.http.post(INFER, json=BODY | {"id": "7"})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.json() == {
        "model_name": "reviews",
        "model_version": "1",
        "id": "7",
        "parameters": {"version": "1", "alias": "Champion", "replica": "replica-1"},
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["good"]},
            {"name": "score", "datatype": "FP32", "shape": [1], "data": [0.75]},
            {
                "name": "scores",
                "datatype": "FP32",
                "shape": [1, 2],
                "data": [0.25, 0.75],
                "parameters": {"labels": '["bad", "good"]'},
            },
            {"name": "truncated", "datatype": "BOOL", "shape": [1], "data": [False]},
        ],
    }
    metadata = (await mesh.http.get("/v2/models/reviews/versions/1")).json()
    assert [tensor["shape"] for tensor in metadata["outputs"]] == [[-1], [-1], [-1, 2], [-1]]
    assert (await mesh.http.get("/v2")).json()["extensions"] == ["binary_tensor_data"]


@pytest.mark.parametrize(
    ("method", "path", "content", "status", "problem"),
    [
        ("POST", INFER, b"{", 400, "body: is not JSON"),
        ("POST", INFER, b"", 400, "body: is not JSON"),
        ("POST", INFER, b"[" * 8_000, 400, "body: is not JSON"),
        ("POST", INFER, b"[" * 100_000, 400, "body: has more than 8,192 values"),
        ("POST", INFER, b'{"inputs": []}', 400, "inputs: one tensor 'text'"),
        ("POST", "/v2/models/other/infer", None, 404, "there is no model other"),
        ("POST", "/v2/models/news/infer", None, 400, "train one first"),
        ("POST", "/v2/models/reviews/versions/9/infer", None, 404, "version '9' of reviews"),
        ("GET", "/v2/models/other", None, 404, "there is no model other"),
        ("GET", "/v2/nothing/here", None, 404, "there is nothing at /v2/nothing/here"),
        ("GET", INFER, None, 405, "send POST"),
        ("POST", INFER, b" " * (LIMIT + 1), 413, "8,388,608"),
    ],
)
async def test_an_error_over_http_is_the_protocols(
    mesh: OneReplica, method: str, path: str, content: bytes | None, status: int, problem: str
) -> None:
    content = json.dumps(BODY).encode() if content is None else content
    for client in (mesh.http, mesh.direct):
        answer = await client.request(method, path, content=content)
        assert answer.status_code == status
        assert set(answer.json()) == {"error"}
        assert problem in answer.json()["error"]


async def test_a_body_of_the_limit_is_taken(mesh: OneReplica) -> None:
    content = json.dumps(BODY).encode()
    answer = await mesh.http.post(INFER, content=content + b" " * (LIMIT - len(content)))
    assert answer.status_code == 200


async def test_the_replica_tells_its_ports(mesh: OneReplica) -> None:
    async with aio.insecure_channel(mesh.server.address) as channel:
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)
        state = await stub.GetState(replica_pb2.GetStateRequest())
    assert (state.http_port, state.unary_port) == (mesh.direct.base_url.port, mesh.unary_port)
    assert "inference.GRPCInferenceService" in REFLECTED


async def test_a_replica_that_drains_is_not_ready_and_ends_its_http_listener(
    mesh: OneReplica,
) -> None:
    # The last test of the file: nothing is answered over HTTP after it.
    await mesh.server.drain()
    assert not (await mesh.stub.ServerReady(pb.ServerReadyRequest(), timeout=5)).ready
    with pytest.raises(httpx.ConnectError):
        await mesh.direct.get("/v2/health/ready")
