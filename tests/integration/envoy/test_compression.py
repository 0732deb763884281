"""gRPC's rules of compression, through Envoy and at both gRPC ports of a replica."""

import gzip
import zlib
from collections.abc import Mapping

import httpx
import pytest

from mesh.v1 import predict_pb2
from service_kit.unary_over_http1.wire import framed
from tests.real_parts.raw_http2 import call
from tests.twins.toy_mesh import ToyMesh, unary_address

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREDICT = "/mesh.v1.PredictService/Predict"
MESSAGE = predict_pb2.PredictRequest(model="reviews", texts=["a film"]).SerializeToString()
OK, UNIMPLEMENTED, INTERNAL = "0", "12", "13"


def packed(message: bytes) -> bytes:
    """A message that says that it is compressed."""
    return b"\1" + len(message).to_bytes(4, "big") + message


async def over_http1(mesh: ToyMesh, body: bytes, headers: dict[str, str]) -> Mapping[str, str]:
    """Call the port to which Envoy sends unary calls, without Envoy."""
    async with httpx.AsyncClient(timeout=20) as client:
        url = f"http://{unary_address(mesh.servers[0])}{PREDICT}"
        return (await client.post(url, content=body, headers=headers)).headers


@pytest.mark.parametrize("encoding", [None, "identity"])
async def test_a_marked_message_without_a_compression_is_an_internal_error_at_every_door(
    mesh: ToyMesh, encoding: str | None
) -> None:
    body = packed(gzip.compress(MESSAGE, mtime=0))
    headers = {} if encoding is None else {"grpc-encoding": encoding}
    for address in (mesh.envoy.address, mesh.servers[0].address):
        fields, _ = await call(address, PREDICT, body, tuple(headers.items()))
        assert fields["grpc-status"] == INTERNAL
    assert (await over_http1(mesh, body, headers))["grpc-status"] == INTERNAL


async def test_an_unknown_compression_names_the_known_ones(mesh: ToyMesh) -> None:
    body, headers = packed(MESSAGE), {"grpc-encoding": "snappy"}
    answers = [await over_http1(mesh, body, headers)]
    if mesh.cluster == "champion-unary":
        # grpcio's own server answers INTERNAL to a compression that it does not know.
        answers.append((await call(mesh.envoy.address, PREDICT, body, tuple(headers.items())))[0])
    for answer in answers:
        assert answer["grpc-status"] == UNIMPLEMENTED
        assert set(answer["grpc-accept-encoding"].split(",")) == {"identity", "gzip", "deflate"}


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", packed(gzip.compress(MESSAGE, mtime=0))),
        ("deflate", packed(zlib.compress(MESSAGE))),
        ("gzip", framed(MESSAGE)),
        ("identity", framed(MESSAGE)),
    ],
)
async def test_what_grpcio_reads_the_port_for_unary_calls_reads(
    mesh: ToyMesh, encoding: str, body: bytes
) -> None:
    for address in (mesh.envoy.address, mesh.servers[0].address):
        fields, answer = await call(address, PREDICT, body, (("grpc-encoding", encoding),))
        assert fields["grpc-status"] == OK, fields
        assert predict_pb2.PredictResponse.FromString(answer[5:]).predictions[0].label == "6"
