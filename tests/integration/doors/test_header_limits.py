"""One limit of headers at every door, for the call alone that breaks it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from mesh.v1 import predict_pb2, reload_pb2, reload_pb2_grpc, train_pb2, train_pb2_grpc
from service_kit.limits import MAX_HEADER_BYTES, MAX_HEADERS
from tests.integration.doors.raw_http import answer_to
from tests.integration.envoy.door_checks import PREDICT, predict_request, predict_stub
from tests.twins.toy_mesh import ToyMesh
from tests.twins.toy_services import DETAIL_BYTES

pytestmark = pytest.mark.asyncio(loop_scope="module")

# Below the limit with room for what a client's library sends by itself.
ROOMY = MAX_HEADER_BYTES - 1024
# Above it, above the 64 KiB a header that Envoy's codec takes by default, and near the codec's end.
LARGE = (MAX_HEADER_BYTES + 1, 20_000, 70_000, 200_000)
TAKEN = "16,384 bytes"


def bytes_of(size: int) -> tuple[tuple[str, str], ...]:
    return (("x-large", "a" * size),)


def many(count: int) -> tuple[tuple[str, str], ...]:
    return tuple((f"x-{number}", "a") for number in range(count))


@asynccontextmanager
async def neighbour(mesh: ToyMesh) -> AsyncIterator[None]:
    """Fail unless a stream of the same connection goes on and a new call is answered."""
    stream = predict_stub(mesh).PredictStream()
    await stream.write(predict_pb2.PredictRequest(id="before"))
    assert (await stream.read()).id == "before"
    yield
    await stream.write(predict_pb2.PredictRequest(id="after"))
    assert (await stream.read()).id == "after"
    await stream.done_writing()
    assert await stream.code() is grpc.StatusCode.OK
    assert (await predict_stub(mesh).Predict(predict_request(), timeout=20)).replica


async def refusal(mesh: ToyMesh, headers: Sequence[tuple[str, str]]) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as refused:
        await predict_stub(mesh).Predict(predict_request(), timeout=20, metadata=headers)
    return refused.value


@pytest.mark.parametrize("headers", [bytes_of(10_000), bytes_of(ROOMY), many(MAX_HEADERS - 5)])
async def test_headers_within_the_limit_are_taken_every_time(
    mesh: ToyMesh, headers: tuple[tuple[str, str], ...]
) -> None:
    train: Any = train_pb2_grpc.TrainServiceStub(mesh.channel)
    for _ in range(10):
        # A replica takes the one over HTTP/1.1, and grpcio's server the other.
        await predict_stub(mesh).Predict(predict_request(), timeout=20, metadata=headers)
        asked = train_pb2.GetTrainingRequest(id="7")
        assert (await train.GetTraining(asked, timeout=20, metadata=headers)).id == "7"
        assert (await mesh.http.get("/v1/models/reviews", headers=headers)).status_code == 200


@pytest.mark.parametrize("size", LARGE)
async def test_large_headers_over_grpc_fail_that_call_alone(mesh: ToyMesh, size: int) -> None:
    async with neighbour(mesh):
        refused = await refusal(mesh, bytes_of(size))
    assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert TAKEN in str(refused.details())


async def test_many_headers_over_grpc_fail_that_call_alone(mesh: ToyMesh) -> None:
    async with neighbour(mesh):
        refused = await refusal(mesh, many(2 * MAX_HEADERS))
        assert refused.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert TAKEN in str(refused.details())
        # Above the codec's limit the stream is reset.
        await refusal(mesh, many(3_000))
        await refusal(mesh, [pair for _ in range(5) for pair in bytes_of(100_000)])


async def test_large_headers_among_many_calls_of_one_connection_fail_no_other(
    mesh: ToyMesh,
) -> None:
    async def call(number: int) -> grpc.StatusCode:
        headers = bytes_of(30_000 * (number % 3))
        try:
            await predict_stub(mesh).Predict(predict_request(), timeout=20, metadata=headers)
        except aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    async with neighbour(mesh):
        codes = await asyncio.gather(*(call(number) for number in range(90)))
    refused = grpc.StatusCode.INVALID_ARGUMENT
    assert codes == [refused if number % 3 else grpc.StatusCode.OK for number in range(90)]


@pytest.mark.parametrize("kind", ["application/grpc-web+proto", "application/grpc-web-text"])
@pytest.mark.parametrize("size", [20_000, 70_000])
async def test_large_headers_over_grpc_web_are_invalid_argument(
    mesh: ToyMesh, kind: str, size: int
) -> None:
    answer = await mesh.http.post(
        "/mesh.v1.PredictService/Predict",
        content=b"\0\0\0\0\0",
        headers={"content-type": kind, "x-large": "a" * size},
    )
    assert answer.headers["content-type"].startswith("application/grpc-web")
    assert answer.headers["grpc-status"] == str(grpc.StatusCode.INVALID_ARGUMENT.value[0])
    assert TAKEN in answer.headers["grpc-message"]


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("path", ["/v1/models", PREDICT, "/healthz", "/v2/health/ready", "/nope"])
async def test_large_headers_over_http_are_431_in_json(
    mesh: ToyMesh, path: str, http2: bool
) -> None:
    async with httpx.AsyncClient(
        base_url=mesh.envoy.url, http1=not http2, http2=http2, timeout=20
    ) as http:
        # A URL counts as well.
        answers = [await http.get(path, params={"a": "b" * 20_000})]
        # This client compresses headers in Python, which takes too long for larger ones.
        sizes = [size for size in LARGE if size < 100_000]
        answers += [await http.get(path, headers=bytes_of(size)) for size in sizes]
        answers.append(await http.get(path, headers=many(2 * MAX_HEADERS)))
        for answer in answers:
            assert answer.status_code == 431
            told = answer.json()
            assert TAKEN in (told["error"] if path.startswith("/v2") else told["message"])
        assert (await http.get("/v1/models/reviews")).status_code == 200


async def test_headers_above_the_codecs_limit_are_431_over_http1(mesh: ToyMesh) -> None:
    for extra in (b"X: " + b"a" * 300_000, b"\r\n".join(b"X: a" for _ in range(2_000))):
        head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\n" + extra + b"\r\n\r\n"
        answer = await answer_to(mesh, head)
        assert answer.status == 431
        assert TAKEN in answer.words


async def test_an_errors_large_details_arrive_whole(mesh: ToyMesh) -> None:
    options = [("grpc.max_metadata_size", 64_000), ("grpc.absolute_max_metadata_size", 64_000)]
    async with aio.insecure_channel(mesh.envoy.address, options) as channel:
        stub: Any = reload_pb2_grpc.ReloadServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as failed:
            await stub.Reload(reload_pb2.ReloadRequest(model="wordy"), timeout=20)
    status = rpc_status.from_call(failed.value)  # type: ignore[arg-type]
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert len(info.metadata["step"]) == DETAIL_BYTES
    answer = await mesh.http.post("/v1/models/wordy:reload", json={})
    assert answer.status_code == 409
    assert len(answer.json()["details"][0]["metadata"]["step"]) == DETAIL_BYTES
