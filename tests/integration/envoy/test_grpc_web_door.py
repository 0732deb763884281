"""gRPC-Web, and calls from browsers, through one port of a real Envoy."""

import base64
import struct
from typing import Any

import grpc
import pytest

from mesh.v1 import (
    predict_pb2,
)
from tests.integration.envoy.door_checks import predict_request
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("text", [False, True])
async def test_grpc_web_reaches_a_replica(mesh: ToyMesh, text: bool) -> None:
    body = frame(predict_request("reviews", "abc").SerializeToString())
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    response = await mesh.http.post(
        "/mesh.v1.PredictService/Predict",
        content=base64.b64encode(body) if text else body,
        headers={"content-type": kind, "accept": kind, "x-grpc-web": "1"},
    )
    assert response.headers["content-type"].startswith("application/grpc-web")
    content = decoded(response.content) if text else response.content
    (flag, message), (trailer_flag, trailers) = frames(content)
    assert (flag, trailer_flag) == (0, 0x80)
    assert predict_pb2.PredictResponse.FromString(message).predictions[0].label == "3"
    assert b"grpc-status:0" in trailers


async def test_a_grpc_web_error_is_a_grpc_status(mesh: ToyMesh) -> None:
    response = await mesh.http.post(
        "/mesh.v1.ReplicaService/GetState",
        content=frame(b""),
        headers={"content-type": "application/grpc-web+proto"},
    )
    assert response.headers["content-type"].startswith("application/grpc-web")
    assert response.headers["grpc-status"] == str(grpc.StatusCode.UNIMPLEMENTED.value[0])
    assert response.headers["grpc-message"] == "there is no such method"


async def test_only_allowed_origins_may_call_from_a_browser(mesh: ToyMesh) -> None:
    async def preflight(origin: str) -> Any:
        headers = {"origin": origin, "access-control-request-method": "POST"}
        response = await mesh.http.options("/mesh.v1.PredictService/Predict", headers=headers)
        return response.headers.get("access-control-allow-origin")

    assert await preflight("https://ui.example") == "https://ui.example"
    assert await preflight("https://other.example") is None


def frame(message: bytes) -> bytes:
    return struct.pack(">BI", 0, len(message)) + message


def frames(content: bytes) -> list[tuple[int, bytes]]:
    found = []
    while content:
        flag, size = struct.unpack(">BI", content[:5])
        found.append((flag, content[5 : 5 + size]))
        content = content[5 + size :]
    return found


def decoded(text: bytes) -> bytes:
    """grpc-web-text is a row of padded base64 pieces."""
    return b"".join(base64.b64decode(text[start : start + 4]) for start in range(0, len(text), 4))
