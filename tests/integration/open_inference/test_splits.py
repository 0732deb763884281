"""While a model's traffic is split: every way in follows the split, and every call is answered."""

import asyncio
import struct
from collections import Counter
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from inference import open_inference_pb2 as pb
from mesh.v1 import predict_pb2, predict_pb2_grpc, reload_pb2, replica_pb2, replica_pb2_grpc
from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")

CALLS = 200
# Six standard deviations of 200 calls at 50 %.
MARGIN = 43
BODY = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
PREDICT = "/mesh.v1.PredictService/Predict"
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/mesh.v1.PredictService/PredictStream"


async def version_by_http(
    mesh: OneReplica, model: str, key: str = "", path: str = "infer"
) -> tuple[str, str]:
    """Return who answered: the version and its alias."""
    headers = {"x-mesh-key": key} if key else {}
    answer = await mesh.http.post(f"/v2/models/{model}/{path}", json=BODY, headers=headers)
    told = answer.raise_for_status().json()
    assert answer.headers["x-mesh-version"] == told["model_version"]
    return told["model_version"], told["parameters"]["alias"]


async def version_by_grpc(mesh: OneReplica, model: str, key: str) -> tuple[str, str]:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="text",
        datatype="BYTES",
        shape=[1],
        contents=pb.InferTensorContents(bytes_contents=[b"a"]),
    )
    answer = await mesh.stub.ModelInfer(
        pb.ModelInferRequest(model_name=model, inputs=[tensor]),
        timeout=20,
        metadata=(("x-mesh-key", key),),
    )
    return answer.model_version, answer.parameters["alias"].string_param


async def test_weights_hold_over_http(mesh: OneReplica) -> None:
    found = Counter([await version_by_http(mesh, "plays") for _ in range(CALLS)])
    assert set(found) == {("1", "Champion"), ("2", "Challenger")}
    assert abs(found["2", "Challenger"] - CALLS / 2) < MARGIN
    assert await version_by_http(mesh, "films") == ("2", "Challenger")
    assert await version_by_http(mesh, "reviews") == ("1", "Champion")


async def test_an_escaped_name_is_the_same_model(mesh: OneReplica) -> None:
    assert await version_by_http(mesh, "f%69lms") == ("2", "Challenger")


async def test_a_version_that_is_named_answers_whatever_the_split(mesh: OneReplica) -> None:
    for model in ("films", "plays"):
        for version in ("1", "2"):
            path = f"versions/{version}/infer"
            answers = {(await version_by_http(mesh, model, path=path))[0] for _ in range(10)}
            assert answers == {version}


async def test_equal_keys_get_equal_versions_over_http_and_grpc(mesh: OneReplica) -> None:
    chosen = set()
    for number in range(16):
        key = f"customer-{number}"
        found = {await version_by_http(mesh, "plays", key) for _ in range(5)}
        assert found == {await version_by_grpc(mesh, "plays", key)}
        chosen |= found
    assert len(chosen) == 2


async def test_a_client_cannot_choose_the_role_over_http(mesh: OneReplica) -> None:
    headers = {"x-mesh-role": "challenger", "x-mesh-mirror": "1"}
    answer = await mesh.http.post("/v2/models/songs/infer", json=BODY, headers=headers)
    assert answer.json()["model_version"] == "1"


async def test_copies_of_http_calls_reach_the_challenger(mesh: OneReplica) -> None:
    async with aio.insecure_channel(mesh.server.address) as channel:
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)

        async def mirrored() -> int:
            state = await stub.GetState(replica_pb2.GetStateRequest())
            slots = {slot.role: slot for slot in state.slots if slot.model == "songs"}
            stats = slots[reload_pb2.MODEL_ROLE_CHALLENGER].stats
            return int(stats.compared + stats.not_compared)

        before = await mirrored()
        for _ in range(10):
            assert await version_by_http(mesh, "songs") == ("1", "Champion")
        async with asyncio.timeout(60):
            while await mirrored() < before + 10:
                await asyncio.sleep(0.02)


def frame(message: bytes, compressed: bool = False) -> bytes:
    return struct.pack(">BI", compressed, len(message)) + message


@pytest.mark.parametrize("path", [PREDICT, INFER, STREAM])
@pytest.mark.parametrize(
    "kind", ["application/grpc", "application/grpc-web+proto", "application/grpc-web-text"]
)
@pytest.mark.parametrize("body", [None, b"", b"\0\0\0", frame(b"whole")[:-1]])
async def test_a_call_without_a_whole_message_is_refused_at_once(
    mesh: OneReplica, path: str, kind: str, body: bytes | None
) -> None:
    async def pieces() -> Any:
        yield body

    async with httpx.AsyncClient(
        base_url=mesh.envoy.url, http1=False, http2=True, timeout=5
    ) as http:
        headers = {"content-type": kind, "te": "trailers", "grpc-timeout": "30S"}
        answer = await http.post(path, headers=headers, content=None if body is None else pieces())
    assert answer.headers["grpc-status"] == str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert answer.headers["grpc-message"]


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_calls_are_answered(
    mesh: OneReplica, compression: grpc.Compression
) -> None:
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        for model in ("reviews", "films"):
            request = predict_pb2.PredictRequest(model=model, texts=["a " * 1000])
            answer = await stub.Predict(request, timeout=20, compression=compression)
            assert answer.model.name == model
