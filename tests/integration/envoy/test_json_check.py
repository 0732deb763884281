"""The strict check of JSON, in a real Envoy: nothing that ProtoJSON refuses reaches a service."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable

import grpc
import httpx
import pytest

from tests.integration.envoy.door_checks import PREDICT, assert_error
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

EXAMPLES = "/v1/models/reviews/examples"
LIMIT = 8 * 1024 * 1024


async def in_pieces(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0.01)  # so that the next piece comes in a read of its own


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        (PREDICT, {"texts": ["good", None, "awful"]}, "texts[1]"),
        (PREDICT, {"texts": [["a", "b"], "c"]}, "texts[0]"),
        (PREDICT, {"texts": "one string"}, "texts"),
        (PREDICT, {"texts": ["a", 1]}, "texts[1]"),
        (PREDICT, {"texts": ["a"], "top_k": 2}, "body"),
        (PREDICT, {"texts": ["a"], "model": "others"}, "model"),
        (EXAMPLES, {"examples": [{"text": "a", "label": "b"}, None]}, "examples[1]"),
        (EXAMPLES, {"examples": [{"text": "a", "lable": "b"}]}, "examples[0]"),
        ("/v1/models/reviews:train", {"params": {"epochs": 1.5}}, "params.epochs"),
    ],
)
@pytest.mark.parametrize("cut", [False, True], ids=["whole", "in pieces"])
async def test_a_refused_value_is_named_with_its_index_and_reaches_no_service(
    mesh: ToyMesh, path: str, body: object, field: str, cut: bool
) -> None:
    text = json.dumps(body).encode()
    calls = sum(replica.calls for replica in mesh.replicas)
    content = in_pieces([text[:9], text[9:-4], text[-4:]]) if cut else text
    headers = {"content-type": "application/json"}
    response = await mesh.http.post(path, content=content, headers=headers)
    assert response.status_code == 400
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, f"{field}: ")
    (detail,) = response.json()["details"]
    assert detail["@type"] == "type.googleapis.com/google.rpc.BadRequest"
    assert detail["fieldViolations"][0]["field"] == field
    assert sum(replica.calls for replica in mesh.replicas) == calls


async def test_one_field_given_twice_is_refused(mesh: ToyMesh) -> None:
    for body in (b'{"texts":["a"],"texts":["b"]}', b'{"allScores":true,"all_scores":false}'):
        response = await mesh.http.post(PREDICT, content=body)
        assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "twice")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/nobody/batches?model=reviews"),
        ("GET", "/v1/trainings/7?id=8"),
        ("POST", f"{PREDICT}?model=others"),
        ("DELETE", "/v1/models/nobody?model=reviews"),
    ],
)
async def test_a_query_never_overrides_the_path(mesh: ToyMesh, method: str, path: str) -> None:
    response = await mesh.http.request(method, path)
    assert response.status_code == 400
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "the path")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/models/reviews:predict/",
        "/v1/./models/reviews:predict",
        "/v1/%6dodels/reviews:predict",
        "/v1/models/reviews:%70redict",
        "/v1/models/re%76iews:predict",
        "/v1/models/reviews:predict?",
        "//v1/models/reviews:predict",
        "/v1/models/reviews%3Apredict",
        "/v1/models//reviews:predict",
        "/v1/models/reviews:predict;a=b",
    ],
)
async def test_no_spelling_of_a_path_gets_past_the_check(mesh: ToyMesh, path: str) -> None:
    # httpx would tidy the path, so the request line is written by hand.
    host, _, port = mesh.envoy.address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = b'{"texts":["a",null]}'
    head = f"POST {path} HTTP/1.1\r\nHost: mesh\r\nContent-Length: {len(body)}\r\n"
    head += "Content-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
    answer = await reader.read()
    writer.close()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))


async def test_a_refused_request_leaves_its_connection_to_the_next_one(mesh: ToyMesh) -> None:
    async with httpx.AsyncClient(base_url=mesh.envoy.url, http1=False, http2=True) as http2:
        for http in (mesh.http, http2):
            for _ in range(3):
                bad = await http.post(PREDICT, json={"texts": [None]})
                good = await http.post(PREDICT, json={"texts": ["a"]})
                assert (bad.status_code, good.status_code) == (400, 200)


async def test_a_large_body_is_read_to_its_end(mesh: ToyMesh) -> None:
    texts = ["é" * 1000] * 900
    assert (await mesh.http.post(PREDICT, json={"texts": texts})).status_code == 200
    response = await mesh.http.post(PREDICT, json={"texts": [*texts, None]})
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "texts[900]")
    blanks = b" " * (LIMIT - 20)
    response = await mesh.http.post(PREDICT, content=b'{"texts":["a"]' + blanks + b"} x")
    assert_error(response, grpc.StatusCode.INVALID_ARGUMENT, "the end")
