"""What reaches a replica, through Envoy or at its own ports: reflection, compressed messages,
trailers and heads."""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_reflection.v1alpha import reflection_pb2 as pb

from mesh.v1 import predict_pb2
from tests.integration.abuse.honest_clients import honest_clients
from tests.integration.open_inference.conftest import OneReplica
from tests.real_parts.raw_http2 import call

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREDICT = "/mesh.v1.PredictService/Predict"
STREAM = "/mesh.v1.PredictService/PredictStream"
PREDICT_JSON = "/v1/models/reviews:predict"
MESSAGE = predict_pb2.PredictRequest(model="reviews", texts=["a film"]).SerializeToString()
PACKERS: list[tuple[str, Any]] = [("gzip", gzip.compress), ("deflate", zlib.compress)]
INTERNAL_NAMES = (
    "mesh.v1.ReplicaService",
    "mesh.v1.PrepareRequest",
    "mesh.v1.ModelRowsService",
    "mesh.v1.ReplicaService.Prepare",
)
INTERNAL_FILES = ("mesh/v1/replica.proto", "mesh/v1/model_rows.proto")


async def reflected(
    address: str, service: str, *requests: pb.ServerReflectionRequest
) -> list[pb.ServerReflectionResponse]:
    async def ask() -> AsyncIterator[pb.ServerReflectionRequest]:
        for request in requests:
            yield request

    async with aio.insecure_channel(address) as channel:
        method = channel.stream_stream(
            f"/{service}/ServerReflectionInfo",
            request_serializer=pb.ServerReflectionRequest.SerializeToString,
            response_deserializer=pb.ServerReflectionResponse.FromString,
        )
        return [response async for response in method(ask(), timeout=20)]


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_tells_of_public_services_only(
    one_replica: OneReplica, version: str
) -> None:
    service = f"grpc.reflection.{version}.ServerReflection"
    ask = pb.ServerReflectionRequest
    requests = (
        ask(list_services=""),
        *(ask(file_containing_symbol=name) for name in INTERNAL_NAMES),
        *(ask(file_by_filename=name) for name in INTERNAL_FILES),
        ask(file_containing_symbol="mesh.v1.PredictService"),
        ask(file_containing_symbol="grpc.health.v1.Health"),
    )
    for address in (one_replica.envoy.address, one_replica.server.address):
        listed, *hidden, predict, health = await reflected(address, service, *requests)
        names = {item.name for item in listed.list_services_response.service}
        assert {"mesh.v1.PredictService", "mesh.v1.TrainService"} <= names
        assert not names & set(INTERNAL_NAMES)
        for answer in hidden:
            assert answer.error_response.error_code == StatusCode.NOT_FOUND.value[0]
        for answer in (predict, health):
            files = answer.file_descriptor_response.file_descriptor_proto
            assert files
            assert not any(b"replica.proto" in file for file in files)


def packed(message: bytes) -> bytes:
    """A gRPC message that is marked as compressed."""
    return b"\1" + len(message).to_bytes(4, "big") + message


@pytest.mark.parametrize("path", [PREDICT, STREAM])
@pytest.mark.parametrize(("encoding", "pack"), PACKERS)
async def test_a_bomb_is_refused_while_it_is_unpacked(
    one_replica: OneReplica, path: str, encoding: str, pack: Any
) -> None:
    bomb = packed(pack(b"\0" * (60 * 1024 * 1024)))
    async with honest_clients(one_replica.envoy, "reviews"):
        for address in (one_replica.envoy.address, one_replica.server.address):
            headers = (("grpc-encoding", encoding),)
            answers = await asyncio.gather(*(call(address, path, bomb, headers) for _ in range(10)))
            for fields, body in answers:
                if path == PREDICT:
                    assert fields["grpc-status"] == str(StatusCode.INVALID_ARGUMENT.value[0])
                    assert "8,388,608" in fields["grpc-message"]
                else:
                    answer = predict_pb2.PredictStreamResponse.FromString(body[5:])
                    assert answer.error.code == StatusCode.INVALID_ARGUMENT.value[0]


async def test_compressed_streams_are_read(one_replica: OneReplica) -> None:
    for encoding, pack in PACKERS:
        for address in (one_replica.envoy.address, one_replica.server.address):
            _, body = await call(
                address, STREAM, packed(pack(MESSAGE)), (("grpc-encoding", encoding),)
            )
            answer = predict_pb2.PredictStreamResponse.FromString(body[5:])
            assert len(answer.response.predictions) == 1


TRAILERS = (
    *(("x-mesh-role", "challenger"), ("x-mesh-mirror", "1"), ("x-mesh-subject", "operator")),
    *(("x-mesh-models", "*"), ("x-mesh-scopes", "release"), ("grpc-timeout", "1n")),
    *(("x-mesh-key", "a"), ("x-mesh-stalled-after-ms", "1"), ("authorization", "Bearer x")),
)


@pytest.mark.parametrize("path", [PREDICT, STREAM])
async def test_trailers_of_a_request_are_no_headers(one_replica: OneReplica, path: str) -> None:
    body = b"\0" + len(MESSAGE).to_bytes(4, "big") + MESSAGE
    async with honest_clients(one_replica.envoy):
        for address in (one_replica.envoy.address, one_replica.server.address):
            for _ in range(10):
                fields, answer = await call(address, path, body, trailers=TRAILERS)
                assert fields["grpc-status"] == "0", fields
                kind: Any = (
                    predict_pb2.PredictResponse
                    if path == PREDICT
                    else predict_pb2.PredictStreamResponse
                )
                message = kind.FromString(answer[5:])
                response = getattr(message, "response", message)
                assert response.model.version == "1", "the Champion answers"


HEADS = {
    "a long line": (b"GET /" + b"a" * 20_000_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n"),
    "a long header": b"POST / HTTP/1.1\r\nhost: x\r\na: " + b"a" * 20_000_000 + b"\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 3_000_000 + b"\r\n",
    "a header that never ends": b"GET / HTTP/1.1\r\nhost: x\r\na: " + b"a" * 20_000_000,
}
PORTS = ("grpc", "http", "unary")
# The limits of time for a head are 10 s.
HEAD_S = 15.0


def port_of(one_replica: OneReplica, which: str) -> int:
    if which == "grpc":
        return one_replica.server.port
    if which == "http":
        assert one_replica.direct.base_url.port is not None
        return one_replica.direct.base_url.port
    return one_replica.unary_port


async def sent(port: int, data: bytes) -> float:
    """Send, and return after how many seconds the connection was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started = time.monotonic()

    async def send() -> None:
        try:
            writer.write(data)
            await writer.drain()
        except OSError:
            return  # closed before everything was sent

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(HEAD_S):
            while await reader.read(65_536):
                continue
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
        await sending
    return time.monotonic() - started


@pytest.mark.parametrize("which", PORTS)
@pytest.mark.parametrize("head", HEADS)
async def test_a_large_head_ends_its_own_connection_soon(
    one_replica: OneReplica, which: str, head: str
) -> None:
    async with honest_clients(one_replica.envoy):
        took = await asyncio.gather(
            *(sent(port_of(one_replica, which), HEADS[head]) for _ in range(3))
        )
    assert max(took) < 3


HALVES = (b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: x\r\na", b"PRI * HTTP/2.0\r\n\r\nSM")


@pytest.mark.parametrize("which", PORTS)
async def test_half_a_head_times_out(one_replica: OneReplica, which: str) -> None:
    async with honest_clients(one_replica.envoy):
        await asyncio.gather(*(sent(port_of(one_replica, which), half) for half in HALVES))
