"""Whatever is sent to /v2, the answer is JSON with an `error`: through Envoy and at the replica."""

import gzip
import json
import zlib

import httpx
import pytest

from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")

READY = "/v2/health/ready"
INFER = "/v2/models/reviews/infer"
BODY = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["a"]}]}'
PATHS = ("/v2", "/v2/health/live", READY, "/v2/models/reviews", "/v2/models/reviews/ready")


def error_of(answer: httpx.Response) -> str:
    """The error in an answer, in the protocol's form."""
    assert answer.headers["content-type"].startswith("application/json"), answer.text
    told = answer.json()
    assert told.keys() == {"error"}
    return str(told["error"])


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-encoding": "br"}, 415),
        ({"content-encoding": "zstd"}, 415),
        ({"content-encoding": "gzip, br"}, 415),
        ({"content-encoding": "gzip"}, 400),
        ({"content-encoding": "deflate"}, 400),
        ({"inference-header-content-length": "x"}, 400),
        ({"inference-header-content-length": "999"}, 400),
    ],
)
async def test_a_body_that_cannot_be_read_is_refused(
    mesh: OneReplica, headers: dict[str, str], status: int
) -> None:
    for client in (mesh.http, mesh.direct):
        answer = await client.post(INFER, content=BODY, headers=headers)
        assert answer.status_code == status
        assert error_of(answer)
        if status == httpx.codes.UNSUPPORTED_MEDIA_TYPE:
            assert answer.headers["accept-encoding"] == "gzip, deflate"


@pytest.mark.parametrize(
    ("encoding", "body"), [("gzip", gzip.compress(BODY, mtime=0)), ("deflate", zlib.compress(BODY))]
)
async def test_a_compressed_body_is_read(mesh: OneReplica, encoding: str, body: bytes) -> None:
    for client in (mesh.http, mesh.direct):
        answer = await client.post(INFER, content=body, headers={"content-encoding": encoding})
        assert answer.json()["model_name"] == "reviews"


async def test_a_compressed_body_is_unpacked_up_to_the_limit_only(mesh: OneReplica) -> None:
    body = gzip.compress(b" " * (20 * 1024 * 1024))
    for client in (mesh.http, mesh.direct):
        answer = await client.post(INFER, content=body, headers={"content-encoding": "gzip"})
        assert answer.status_code == httpx.codes.REQUEST_ENTITY_TOO_LARGE
        assert "8,388,608" in error_of(answer)


async def test_an_old_web_sockets_header_is_refused_in_the_protocols_form(mesh: OneReplica) -> None:
    for client in (mesh.http, mesh.direct):
        answer = await client.get(READY, headers={"Sec-WebSocket-Key1": "x"})
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert "Sec-WebSocket-Key1" in error_of(answer)


async def test_a_long_path_and_a_long_header_are_taken(mesh: OneReplica) -> None:
    for client in (mesh.http, mesh.direct):
        assert (await client.get(f"{READY}?x={'a' * 9_000}")).json() == {"ready": True}
        headers = {"authorization": f"Bearer {'a' * 10_000}"}
        assert (await client.get(READY, headers=headers)).json() == {"ready": True}


@pytest.mark.parametrize("path", PATHS)
async def test_a_wrong_method_is_told_the_right_ones(mesh: OneReplica, path: str) -> None:
    for client in (mesh.http, mesh.direct):
        answer = await client.put(path, content=b"{}")
        # Envoy answers OPTIONS as well.
        allowed = set(answer.headers["allow"].split(", ")) - {"OPTIONS"}
        assert (answer.status_code, allowed) == (405, {"GET", "HEAD"})
        assert error_of(answer)


@pytest.mark.parametrize("path", [*PATHS, "/v2/models/other", "/v2/nothing"])
async def test_head_answers_as_get_does_without_content(mesh: OneReplica, path: str) -> None:
    for client in (mesh.http, mesh.direct):
        got, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        # The connection goes on behind it.
        assert (await client.get(READY)).json() == {"ready": True}


@pytest.mark.parametrize(
    "path",
    [
        *("/v2/models/reviews%2Fready", "/v2/models/reviews%2finfer", "/v2/models/a%2Fb"),
        *("/v2/models/reviews/versions%2F1", "/v2/health%2Flive", "/v2/models/reviews%2F"),
        "/v2/models/reviews/versions/1%2Fready",
    ],
)
async def test_an_escaped_slash_divides_nothing(mesh: OneReplica, path: str) -> None:
    for client in (mesh.http, mesh.direct):
        for answer in (await client.get(path), await client.post(path, content=BODY)):
            assert answer.status_code in (404, 405)
            assert error_of(answer)
            assert "true" not in answer.text


async def test_null_is_absent(mesh: OneReplica) -> None:
    request = json.loads(BODY) | {"id": None, "outputs": None, "parameters": None}
    request["inputs"][0]["parameters"] = None
    answer = await mesh.http.post(INFER, json=request)
    assert answer.status_code == httpx.codes.OK
    assert "id" not in answer.json()
