"""The HTTP listener byte by byte: whatever is refused, the answer is JSON with an `error`."""

import asyncio
import gzip
import json
import logging
import zlib
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from inference_svc.doors.oip import http_connections, http_door
from inference_svc.doors.oip.http_door import OpenInferenceHttp
from inference_svc.doors.oip.protocol import OpenInference
from service_kit.limits import MAX_HEADER_BYTES
from tests.real_parts.postgres import free_port
from tests.unit.inference.parts import Parts

READY = "GET /v2/health/ready HTTP/1.1"
INFER = "POST /v2/models/reviews/infer HTTP/1.1"
BODY = b'{"inputs":[{"name":"text","shape":[1],"datatype":"BYTES","data":["good"]}]}'
WAIT_S = 60.0


@pytest.fixture
async def port(both: Parts) -> AsyncIterator[int]:
    """Port of a listener before a replica that serves `reviews`."""
    inference = OpenInference(both.replica, "replica-1")
    inference.ready = True
    door, port = OpenInferenceHttp(inference, grace_s=0), free_port()
    await door.listen("127.0.0.1", port)
    yield port
    await door.close()


async def ask(port: int, data: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes on a new connection; return status, headers and body of the answer."""
    async with asyncio.timeout(WAIT_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        fields = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        has_body = not data.startswith(b"HEAD")
        body = await reader.readexactly(int(fields["content-length"])) if has_body else b""
        writer.close()
        return int(head[0].split()[1]), fields, body


def request(line: str, *headers: str, body: bytes | None = None) -> bytes:
    """The bytes of a request."""
    length = () if body is None else (f"content-length: {len(body)}",)
    head = "\r\n".join((line, "host: mesh", *length, *headers))
    return f"{head}\r\n\r\n".encode() + (body or b"")


def chunked(*parts: bytes) -> bytes:
    return request(INFER, "transfer-encoding: chunked") + b"".join(parts)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request(f"GET /v2/health/ready?{'a' * 30_000} HTTP/1.1"), 431),
        (request(READY, f"x-a: {'a' * 30_000}"), 431),
        (request(READY, f"{'a' * 30_000}: a"), 431),
        (request(READY, *(f"x-{n}: {'a' * 9_000}" for n in range(3))), 431),
        (request(READY, *(f"x-{n}: a" for n in range(200))), 431),
        (request("HELLO"), 400),
        (request("GET"), 400),
        (request("get /v2 HTTP/1.1"), 400),
        (request("GET /v2 HTTP/9.9"), 400),
        (request("GET /v2/ä HTTP/1.1"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (f"{READY}\r\n\r\n".encode(), 400),
        (request(READY, "Sec-WebSocket-Key1: x"), 400),
        (request(READY, "x-a : a"), 400),
        (request(READY, "x-a: \0"), 400),
        (request(INFER, "content-length: 1", "content-length: 2"), 400),
        (request(INFER, "content-length: -1"), 400),
        (request(INFER, "content-length: 1", "transfer-encoding: chunked"), 400),
        (chunked(b"zz\r\na\r\n"), 400),
        (chunked(b"1\r\na\r\n", b"zz\r\n"), 400),
        (chunked(b"-1\r\n"), 400),
        (request(INFER, "content-encoding: br", body=BODY), 415),
        (request(INFER, "content-encoding: zstd", body=BODY), 415),
        (request(INFER, "content-encoding: gzip, gzip", body=BODY), 415),
        (request(INFER, "content-encoding: gzip", body=BODY), 400),
        (request(INFER, "content-encoding: gzip", body=gzip.compress(BODY, mtime=0)[:-1]), 400),
        (
            request(INFER, "content-encoding: gzip", body=gzip.compress(b" " * 9_000_000, mtime=0)),
            413,
        ),
        (request(INFER, *["inference-header-content-length: 3"] * 2, body=BODY), 400),
        (request("OPTIONS * HTTP/1.1"), 404),
        (request("GET /v2/models/reviews%2Fready HTTP/1.1"), 404),
        (request("PUT /v2/health/ready HTTP/1.1", body=b""), 405),
        (request("GET /v2/models/reviews/infer HTTP/1.1"), 405),
    ],
    ids=lambda value: ascii(value[:40]) if isinstance(value, bytes) else None,
)
async def test_whatever_is_refused_is_told_in_the_protocols_form(
    port: int, data: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        answered, fields, body = await ask(port, data)
    assert (answered, fields["content-type"]) == (status, "application/json")
    told = json.loads(body)
    assert told.keys() == {"error"}
    assert told["error"]
    assert "\\x" not in told["error"]
    assert "b'" not in told["error"]
    if status == HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE:
        assert f"at most {MAX_HEADER_BYTES:,} bytes" in told["error"]
    if status == HTTPStatus.UNSUPPORTED_MEDIA_TYPE:
        assert fields["accept-encoding"] == "gzip, deflate"
    # A stranger's bytes are no trouble of ours.
    assert not caplog.records


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", BODY),
        ("gzip", gzip.compress(BODY, mtime=0)),
        ("GZip", gzip.compress(BODY, mtime=0)),
        ("x-gzip", gzip.compress(BODY, mtime=0)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", zlib.compress(BODY, wbits=-15)),
    ],
)
async def test_a_body_may_be_compressed(port: int, encoding: str, body: bytes) -> None:
    status, _, answer = await ask(port, request(INFER, f"content-encoding: {encoding}", body=body))
    assert status == HTTPStatus.OK, answer
    assert json.loads(answer)["outputs"][0]["data"] == ["good"]


async def test_headers_of_the_limit_are_taken(port: int) -> None:
    status, _, _ = await ask(port, request(READY, f"x-a: {'a' * (MAX_HEADER_BYTES - 200)}"))
    assert status == HTTPStatus.OK


@pytest.mark.parametrize(
    "path", ["/v2", "/v2/health/live", "/v2/health/ready", "/v2/models/reviews", "/v2/models/no"]
)
async def test_head_answers_as_get_does_without_content(port: int, path: str) -> None:
    got = await ask(port, request(f"GET {path} HTTP/1.1"))
    head = await ask(port, request(f"HEAD {path} HTTP/1.1"))
    assert head[0] == got[0]
    assert head[1]["content-length"] == got[1]["content-length"]


@pytest.mark.parametrize(
    ("line", "allowed"),
    [("POST /v2", "get, head"), ("DELETE /v2/models/reviews", "get, head")]
    + [(f"{verb} /v2/models/reviews/infer", "post") for verb in ("GET", "HEAD", "PUT", "OPTIONS")],
)
async def test_a_wrong_method_is_told_the_right_ones(port: int, line: str, allowed: str) -> None:
    status, fields, _ = await ask(port, request(f"{line} HTTP/1.1"))
    assert (status, fields["allow"]) == (HTTPStatus.METHOD_NOT_ALLOWED, allowed)


async def test_a_body_that_does_not_come_is_not_waited_for(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_door, "BODY_S", 0.05)
    status, _, body = await ask(port, request(INFER, "content-length: 100") + b"{")
    assert status == HTTPStatus.REQUEST_TIMEOUT
    assert json.loads(body) == {"error": "the body does not come; it has 0.05 s"}


async def test_a_connection_without_a_request_is_closed(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connections, "FIRST_REQUEST_S", 0.05)
    for begin in (b"", b"GET /v2 HTT"):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begin)
        async with asyncio.timeout(WAIT_S):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_too_many_is_closed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connections, "MAX_CONNECTIONS", 1)
    first, writer = await asyncio.open_connection("127.0.0.1", port)
    second, refused = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(WAIT_S):
        assert await second.read() == b""
        writer.write(request(READY))
        assert (await first.readline()).startswith(b"HTTP/1.1 200")
    for either in (writer, refused):
        either.close()
