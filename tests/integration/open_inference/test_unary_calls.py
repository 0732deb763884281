"""Unary gRPC calls at a replica's two gRPC ports and through Envoy: trailers and deadlines."""

import httpx
import pytest

from mesh.v1 import predict_pb2
from service_kit.unary_over_http1.wire import framed
from tests.integration.open_inference.conftest import OneReplica
from tests.real_parts.raw_http2 import call

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREDICT = "/mesh.v1.PredictService/Predict"
MESSAGE = predict_pb2.PredictRequest(model="reviews", texts=["a film"]).SerializeToString()
OK, DEADLINE_EXCEEDED = "0", "4"


async def over_http1(mesh: OneReplica, body: bytes, headers: dict[str, str]) -> httpx.Headers:
    """Call the port to which Envoy sends unary calls, without Envoy."""
    async with httpx.AsyncClient(timeout=20) as client:
        url = f"http://127.0.0.1:{mesh.unary_port}{PREDICT}"
        return (await client.post(url, content=body, headers=headers)).headers


async def test_a_clients_trailers_are_no_headers_of_its_call_or_the_next(mesh: OneReplica) -> None:
    trailers = (
        *(("x-mesh-role", "challenger"), ("x-mesh-mirror", "1"), ("grpc-timeout", "1n")),
        *(("grpc-encoding", "snappy"), ("x-mesh-key", "k")),
    )
    for _ in range(10):
        fields, _ = await call(mesh.envoy.address, PREDICT, framed(MESSAGE), (), trailers)
        assert (fields["grpc-status"], fields["x-mesh-alias"]) == (OK, "Champion")
        fields, _ = await call(mesh.envoy.address, PREDICT, framed(MESSAGE))
        assert (fields["grpc-status"], fields["x-mesh-alias"]) == (OK, "Champion")


@pytest.mark.parametrize("timeout", ["0n", "1n", "1u"])
async def test_a_deadline_that_passed_on_the_way_is_told_as_such(
    mesh: OneReplica, timeout: str
) -> None:
    body, headers = framed(MESSAGE), {"grpc-timeout": timeout}
    for address in (mesh.envoy.address, mesh.server.address):
        fields, _ = await call(address, PREDICT, body, tuple(headers.items()))
        # grpcio may reset such a call instead of answering it.
        assert fields.get("grpc-status", DEADLINE_EXCEEDED) == DEADLINE_EXCEEDED
    assert (await over_http1(mesh, body, headers))["grpc-status"] == DEADLINE_EXCEEDED
