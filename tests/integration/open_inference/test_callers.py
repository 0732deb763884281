"""A caller whose token is for other models is refused at every port of a replica."""

from typing import Any

import httpx
import pytest
from grpc import aio

from inference import open_inference_pb2, open_inference_pb2_grpc
from mesh.v1 import predict_pb2, predict_pb2_grpc
from service_kit.unary_over_http1.wire import framed
from tests.integration.open_inference.conftest import OneReplica
from tests.integration.open_inference.test_unary_calls import MESSAGE, over_http1

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Envoy sets these headers from a verified token; here the test calls behind Envoy.
FILMS = {"x-mesh-subject": "shop", "x-mesh-token-id": "1", "x-mesh-models": "films*"}
REVIEWS = {**FILMS, "x-mesh-models": "reviews"}
DENIED, OK = "7", "0"


async def test_unary_calls(mesh: OneReplica) -> None:
    assert (await over_http1(mesh, framed(MESSAGE), FILMS))["grpc-status"] == DENIED
    answer = (await over_http1(mesh, framed(MESSAGE), REVIEWS)).get("grpc-status", OK)
    assert answer == OK


@pytest.mark.parametrize("path", ["", "/ready", "/versions/1", "/infer"])
async def test_the_open_inference_protocol_over_http(mesh: OneReplica, path: str) -> None:
    verb = "POST" if path == "/infer" else "GET"
    url = f"/v2/models/reviews{path}"
    refused: httpx.Response = await mesh.direct.request(verb, url, headers=FILMS)
    assert refused.status_code == 403
    assert "is for the models films*, not for reviews" in refused.text
    assert (await mesh.direct.request(verb, url, headers=REVIEWS)).status_code != 403
    assert (await mesh.direct.get("/v2/health/live", headers=FILMS)).status_code == 200


async def test_each_message_of_a_stream_and_the_list(mesh: OneReplica) -> None:
    async with aio.insecure_channel(mesh.server.address) as channel:
        stub = predict_pb2_grpc.PredictServiceStub(channel)
        requests = [
            predict_pb2.PredictRequest(model=model, texts=["a film"], id=model)
            for model in ("reviews", "films")
        ]
        metadata = tuple(REVIEWS.items())
        answers = {
            answer.id: answer
            async for answer in stub.PredictStream(iter(requests), metadata=metadata)
        }
        assert answers["reviews"].HasField("response")
        assert answers["films"].error.code == int(DENIED)
        listed = await stub.ListModels(predict_pb2.ListModelsRequest(), metadata=metadata)
        assert {model.name for model in listed.models} == {"reviews"}
        others = await stub.ListModels(
            predict_pb2.ListModelsRequest(), metadata=tuple(FILMS.items())
        )
        assert {model.name for model in others.models} == {"films"}


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ModelReady", open_inference_pb2.ModelReadyRequest(name="reviews")),
        ("ModelMetadata", open_inference_pb2.ModelMetadataRequest(name="reviews")),
        ("ModelInfer", open_inference_pb2.ModelInferRequest(model_name="reviews")),
    ],
)
async def test_the_open_inference_protocol_over_grpc(
    mesh: OneReplica, method: str, request_: Any
) -> None:
    async with aio.insecure_channel(mesh.server.address) as channel:
        call = getattr(open_inference_pb2_grpc.GRPCInferenceServiceStub(channel), method)
        with pytest.raises(aio.AioRpcError, match="not for reviews") as refused:
            await call(request_, metadata=tuple(FILMS.items()))
        assert refused.value.code().value[0] == int(DENIED)
