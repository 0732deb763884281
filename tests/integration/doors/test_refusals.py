"""What Envoy refuses by itself, its codec included, is said in JSON and in words."""

import pytest

from tests.integration.doors.raw_http import answer_to
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

POST = "POST /v1/models/reviews:predict HTTP/1.1\r\nHost: x\r\n"
GET = "GET /v1/models/reviews HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"


def get(path: str) -> str:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("request_text", "status", "words"),
    [
        ("GET /v1/models HTTP/1.1\r\n\r\n", 400, "host: is missing"),
        ("GET /v1/models HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "host: is no host"),
        (get("/v1/models/a%00"), 400, "path: cannot be read"),
        (get("/v2/models/a%00"), 400, "path: cannot be read"),
        (get("/v1/models#x"), 400, "path: cannot be read"),
        (get("/v1/mod els"), 400, "no request of HTTP/1.1"),
        (get("/v1/models/\u00e9"), 400, "no request of HTTP/1.1"),
        (get("/v1/models/\x01"), 400, "a byte that HTTP does not allow"),
        (get("v1/models"), 400, "no request of HTTP/1.1"),
        (get("*"), 400, "neither a path that begins with /"),
        (get("ftp://x/v1/models"), 400, "neither http nor https"),
        (get("/../../etc/passwd"), 404, "/etc/passwd"),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, "nothing at this path"),
        (f"{GET}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", 400, "no web sockets"),
        ("CONNECT x:443 HTTP/1.1\r\nHost: x:443\r\n\r\n", 404, "to a method"),
        ("FOO /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no request of HTTP/1.1"),
        ("get /v1/models HTTP/1.1\r\nHost: x\r\n\r\n", 400, "no request of HTTP/1.1"),
        (f"{POST}Content-Length: abc\r\n\r\n", 400, "content-length"),
        (f"{POST}Content-Length: -1\r\n\r\n", 400, "content-length"),
        (f"{POST}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "content-length"),
        (
            f"{POST}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "transfer-encoding are both there",
        ),
        (f"{POST}Transfer-Encoding: gzip\r\n\r\n", 501, "transfer-encoding: only chunked"),
        (f"{POST}Transfer-Encoding: chunked\r\n\r\nzz\r\na\r\n0\r\n\r\n", 400, "a chunk"),
        (
            "POST /v2/models/reviews/infer HTTP/1.1\r\nHost: x\r\n"
            "Transfer-Encoding: chunked\r\n\r\nzz\r\na\r\n0\r\n\r\n",
            400,
            "a chunk",
        ),
        (f"{GET}X-A: a\0b\r\n\r\n", 400, "a byte that HTTP does not allow"),
        (f"{GET}X A: b\r\n\r\n", 400, "name of a header"),
        (f"{GET}no colon\r\n\r\n", 400, "name of a header"),
        ("\x00\x01\x02\r\n\r\n", 400, "no request of HTTP/1.1"),
        # A client that speaks TLS with a door that does not.
        ("\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03" + "a" * 200, 400, "no request of HTTP"),
    ],
)
async def test_every_refusal_has_words(
    mesh: ToyMesh, request_text: str, status: int, words: str
) -> None:
    answer = await answer_to(mesh, request_text.encode("latin-1"))
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert words in answer.words
    path = request_text.split(" ")[1] if " " in request_text else ""
    assert (b'"error"' in answer.body) == path.startswith("/v2")
