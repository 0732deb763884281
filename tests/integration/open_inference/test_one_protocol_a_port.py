"""Envoy shares its connections to a replica among all callers, so no request may end one."""

from collections.abc import AsyncIterator
from itertools import product

import httpx
import pytest
import pytest_asyncio
from grpc import aio

from inference import open_inference_pb2, open_inference_pb2_grpc
from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")

VERBS = ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "POST", "PROPFIND")
PATHS = (
    "/",
    "/mesh.v1.PredictService/Predict",
    "/mesh.v1.PredictService/ListModels",
    "/inference.GRPCInferenceService/ModelInfer",
    "/mesh.v1/health",
    "/v1/models/reviews:predict",
    "/v2",
    "/v2/health/ready",
    "/v2/models/reviews/infer",
    "/v2/mesh.v1/health",
)
HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"content-type": "application/grpc", "te": "trailers"},
    {"content-type": "application/grpc-web"},
    {"content-type": "application/json", "connection": "close"},
    {"connection": "upgrade", "upgrade": "websocket"},
    {"expect": "100-continue", "x-http-method-override": "GET"},
)
BODIES = (b"", b'{"texts": ["a"]}', b"\0\0\0\0\0", b"GET /v2 HTTP/1.1\r\nhost: mesh\r\n\r\n")
CALLS = 10
# Now and then grpcio leaves a call unanswered whose first bytes are no length of a message.
PATIENCE_S = 3.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def channel(mesh: OneReplica) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        yield channel


async def answered_by_every_door(mesh: OneReplica, channel: aio.Channel) -> None:
    """Call over every protocol. Raises when a call is not answered."""
    predict = predict_pb2.PredictRequest(model="reviews", texts=["a"])
    tensor = open_inference_pb2.ModelInferRequest.InferInputTensor(
        name="text",
        datatype="BYTES",
        shape=[1],
        contents=open_inference_pb2.InferTensorContents(bytes_contents=[b"a"]),
    )
    infer = open_inference_pb2.ModelInferRequest(model_name="reviews", inputs=[tensor])
    for _ in range(CALLS):
        answers = (
            await mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]}),
            await mesh.http.get("/v2/models/reviews"),
        )
        assert [answer.status_code for answer in answers] == [200, 200]
        await predict_pb2_grpc.PredictServiceStub(channel).Predict(predict, timeout=20)
        stub = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        await stub.ModelInfer(infer, timeout=20)


@pytest.mark.parametrize("verb", VERBS)
async def test_no_request_takes_a_connection_from_the_calls_behind_it(
    mesh: OneReplica, channel: aio.Channel, verb: str
) -> None:
    for path, headers, body in product(PATHS, HEADERS, BODIES):
        # Some are refused and some end their own connection; their answers do not matter here.
        try:
            await mesh.http.request(verb, path, headers=headers, content=body, timeout=PATIENCE_S)
        except (httpx.RemoteProtocolError, httpx.ReadTimeout):
            continue
    await answered_by_every_door(mesh, channel)


@pytest.mark.parametrize("verb", VERBS)
async def test_a_port_answers_its_own_protocol_only(mesh: OneReplica, verb: str) -> None:
    unary = httpx.AsyncClient(base_url=f"http://127.0.0.1:{mesh.unary_port}", timeout=20)
    async with unary:
        for path in PATHS:
            over_unary = await unary.request(verb, path)
            over_http = await mesh.direct.request(verb, path)
            assert "grpc-status" not in over_http.headers
            if verb in ("PROPFIND", "TRACE", "POST"):
                continue
            healthy = verb == "GET" and path == "/mesh.v1/health"
            assert over_unary.status_code == (200 if healthy else 405)
