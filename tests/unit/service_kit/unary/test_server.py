"""Unary calls over HTTP/1.1, byte by byte."""

import asyncio
import base64
import gzip
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

from service_kit.errors import InvalidArgument, NotFound, Unimplemented
from service_kit.interceptor import Context
from service_kit.limits import MAX_MESSAGE_BYTES
from service_kit.unary.server import UnaryMethod, UnaryServer
from service_kit.unary.wire import (
    framed,
    status_lines,
    timeout_s,
    unframed,
)
from tests.real_parts.waiting import until

ECHO = "/test.Echo/Echo"
WAIT_S = 60.0


class Echo:
    """Answers with what it is sent, once it may."""

    def __init__(self) -> None:
        self.may = asyncio.Event()
        self.may.set()
        self.begun = 0
        self.cancelled = 0
        self.seconds_left: float | None = None
        self.metadata: dict[str, Any] = {}

    async def answer(self, request: StringValue, context: Context) -> StringValue:
        self.begun += 1
        self.seconds_left = context.time_remaining()
        self.metadata = dict(context.invocation_metadata() or ())
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if request.value == "unknown":
            raise NotFound("there is no such thing: 100 %\nat all, ü")
        if request.value == "broken":
            raise RuntimeError("secret")
        if request.value == "not written":
            return None  # type: ignore[return-value]
        context.set_trailing_metadata((("x-mesh-version", "7"), ("x-raw-bin", b"\0\xff")))
        return request


class Peer:
    """What Envoy would be."""

    def __init__(self, server: UnaryServer, echo: Echo, port: int) -> None:
        self.server = server
        self.echo = echo
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        return reader, writer

    async def ask(self, data: bytes) -> tuple[str, dict[str, str], bytes]:
        """Status line, headers and trailers together, and the body, on a connection of its own."""
        reader, writer = await self.connect()
        writer.write(data)
        return await read(reader)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def listening() -> AsyncIterator[Peer]:
    echo = Echo()
    server = UnaryServer({ECHO: UnaryMethod.of(ECHO, echo.answer, StringValue.FromString)})
    server.serving = True
    peer = Peer(server, echo, await server.listen("127.0.0.1", 0))
    try:
        async with asyncio.timeout(WAIT_S):
            yield peer
    finally:
        peer.hang_up()
        await server.close(grace_s=0)


def message(text: str = "a") -> bytes:
    return framed(StringValue(value=text).SerializeToString())


def call(body: bytes, *headers: str, path: str = ECHO) -> bytes:
    head = "\r\n".join((f"POST {path} HTTP/1.1", "host: mesh", *headers))
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    status = (await reader.readline()).decode().strip()
    fields, body = await lines(reader), b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readline() == b"\r\n"
        fields |= await lines(reader)
    return status, fields, body


async def lines(reader: asyncio.StreamReader) -> dict[str, str]:
    found = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(": ")
        found[name] = value
    return found


async def test_an_answer_has_its_message_and_in_its_trailers_the_status() -> None:
    async with listening() as peer:
        status, fields, body = await peer.ask(
            call(message("hello"), "grpc-timeout: 2S", "x-mesh-role: challenger")
        )
        assert (status, body) == ("HTTP/1.1 200 OK", message("hello"))
        assert fields["content-type"] == "application/grpc"
        assert (fields["grpc-status"], fields["x-mesh-version"]) == ("0", "7")
        assert fields["x-raw-bin"] == "AP8"
        assert peer.echo.metadata["x-mesh-role"] == "challenger"
        assert 0 < (peer.echo.seconds_left or 0) <= 2


async def test_without_a_deadline_there_is_none() -> None:
    async with listening() as peer:
        await peer.ask(call(message()))
        assert peer.echo.seconds_left is None


async def test_bytes_may_come_one_by_one_and_chunked() -> None:
    async with listening() as peer:
        body = message("in pieces")
        chunked = b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        reader, writer = await peer.connect()
        for byte in f"POST {ECHO} HTTP/1.1\r\nhost: mesh\r\n".encode() + chunked:
            writer.write(bytes((byte,)))
            await writer.drain()
        assert (await read(reader))[2] == body


async def test_a_connection_carries_one_call_after_the_other() -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        for text in ("first", "unknown", "second"):
            writer.write(call(message(text)))
            status, fields, body = await read(reader)
            assert status == "HTTP/1.1 200 OK"
            assert (fields["grpc-status"], body) == (
                ("5", b"") if text == "unknown" else ("0", message(text))
            )


async def test_an_error_tells_its_message_and_details() -> None:
    async with listening() as peer:
        _, fields, body = await peer.ask(call(message("unknown")))
        assert (fields["grpc-status"], fields["content-length"], body) == ("5", "0", b"")
        assert fields["grpc-message"] == "there is no such thing: 100 %25%0Aat all, %C3%BC"
        details = Status.FromString(from_base64(fields["grpc-status-details-bin"]))
        assert details.message == "there is no such thing: 100 %\nat all, ü"


async def test_a_defect_shows_nothing_of_itself() -> None:
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(message("broken")))
        assert fields["grpc-status"] == "13"
        assert fields["grpc-message"].startswith("internal error; the log has it as ")


async def test_an_answer_that_cannot_be_written_ends_the_connection() -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(call(message("not written")))
        # Reset or closed, as the system has it.
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize(
    ("encoding", "compress"), [("gzip", gzip.compress), ("deflate", zlib.compress)]
)
async def test_messages_may_be_compressed(encoding: str, compress: Any) -> None:
    packed = compress(StringValue(value="packed").SerializeToString())
    async with listening() as peer:
        body = b"\1" + len(packed).to_bytes(4, "big") + packed
        assert (await peer.ask(call(body, f"grpc-encoding: {encoding}")))[2] == message("packed")


@pytest.mark.parametrize(
    ("case", "body", "code"),
    [
        ("no message", b"", "3"),
        ("cut short", message()[:-1], "3"),
        ("too long", message() + b"x", "3"),
        ("not protobuf", framed(b"\xff\xff"), "3"),
        ("compressed by nobody knows what", b"\1\0\0\0\1x", "12"),
        ("over the limit", framed(b"\0" * (MAX_MESSAGE_BYTES + 1)), "3"),
    ],
)
async def test_a_bad_message_is_refused(case: str, body: bytes, code: str) -> None:
    async with listening() as peer:
        status, fields, _ = await peer.ask(call(body))
        assert (status, fields["grpc-status"]) == ("HTTP/1.1 200 OK", code), case
        assert peer.echo.begun == 0


async def test_of_a_bomb_not_more_than_the_limit_is_unpacked() -> None:
    bomb = gzip.compress(b"\0" * (10 * MAX_MESSAGE_BYTES))
    body = b"\1" + len(bomb).to_bytes(4, "big") + bomb
    assert len(unframed(body, "gzip", 1000)) == 1001
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(body, "grpc-encoding: gzip"))
        assert (fields["grpc-status"], peer.echo.begun) == ("3", 0)


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", [ECHO, "/v2/health/live", "/"])
async def test_another_verb_is_refused_and_the_next_call_answered(verb: str, path: str) -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(call(message(), path=path).replace(b"POST", verb.encode(), 1))
        status, fields, body = await read(reader)
        assert (status, fields["allow"], body) == ("HTTP/1.1 405 Method Not Allowed", "POST", b"")
        writer.write(call(message("next")))
        assert (await read(reader))[2] == message("next")


async def test_an_unknown_method_is_unimplemented() -> None:
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(message(), path="/test.Echo/Other"))
        assert fields["grpc-status"] == "12"


@pytest.mark.parametrize(
    "data", [b"hello\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"\x16\x03\x01"]
)
async def test_what_is_not_http_is_refused(data: bytes) -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(data)
        writer.write_eof()
        assert (await reader.read()).startswith((b"HTTP/1.1 400 Bad Request\r\n", b""))


async def test_who_does_not_wait_for_an_answer_is_hung_up_on() -> None:
    async with listening() as peer:
        peer.echo.may.clear()
        reader, writer = await peer.connect()
        writer.write(call(message()) * 2)
        assert (await read(reader))[0] == "HTTP/1.1 400 Bad Request"
        assert await reader.read() == b""
        await until(lambda: peer.echo.cancelled == 1)


async def test_a_call_ends_when_its_connection_does() -> None:
    async with listening() as peer:
        peer.echo.may.clear()
        _, writer = await peer.connect()
        writer.write(call(message()))
        await until(lambda: peer.echo.begun == 1)
        writer.close()
        await until(lambda: peer.echo.cancelled == 1)


async def test_health_says_whether_calls_are_welcome() -> None:
    async with listening() as peer:
        health = b"GET /mesh.v1/health HTTP/1.1\r\nhost: mesh\r\n\r\n"
        assert (await peer.ask(health))[0] == "HTTP/1.1 200 OK"
        peer.server.serving = False
        assert (await peer.ask(health))[0] == "HTTP/1.1 503 Service Unavailable"


async def test_closing_answers_what_has_come_and_ends_what_is_idle() -> None:
    async with listening() as peer:
        peer.echo.may.clear()
        health = b"GET /mesh.v1/health HTTP/1.1\r\nhost: mesh\r\n\r\n"
        checks, checked = await peer.connect()
        checked.write(health)
        assert (await read(checks))[0] == "HTTP/1.1 200 OK"
        idle, _ = await peer.connect()
        busy, writer = await peer.connect()
        writer.write(call(message("late")))
        await until(lambda: peer.echo.begun == 1)
        closing = asyncio.create_task(peer.server.close(grace_s=WAIT_S))
        assert await idle.read() == b""
        checked.write(health)
        assert (await read(checks))[0] == "HTTP/1.1 503 Service Unavailable"
        peer.echo.may.set()
        _, fields, body = await read(busy)
        assert (fields["connection"], body) == ("close", message("late"))
        assert await busy.read() == b""
        await closing
        assert await checks.read() == b""


async def test_closing_waits_no_longer_than_its_grace() -> None:
    async with listening() as peer:
        peer.echo.may.clear()
        _, writer = await peer.connect()
        writer.write(call(message()))
        await until(lambda: peer.echo.begun == 1)
        await peer.server.close(grace_s=0.01)
        await until(lambda: peer.echo.cancelled == 1)


@given(st.binary(max_size=64))
def test_no_body_but_a_whole_message_is_taken(body: bytes) -> None:
    whole = len(body) >= 5 and int.from_bytes(body[1:5], "big") == len(body) - 5
    if not whole:
        with pytest.raises(InvalidArgument):
            unframed(body, "", 100)
    elif body[0]:
        with pytest.raises(Unimplemented):
            unframed(body, "", 100)
    else:
        assert unframed(body, "", 100) == body[5:]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"2H", 7200.0),
        (b"3M", 180.0),
        (b"4S", 4.0),
        (b"250m", 0.25),
        (b"10u", 1e-5),
        (b"99999999n", 0.099999999),
        (b"", None),
        (b"S", None),
        (b"5", None),
        (b"-5S", None),
        (b"123456789S", None),
    ],
)
def test_deadlines_are_read(header: bytes, seconds: float | None) -> None:
    found = timeout_s(header)
    assert found == (None if seconds is None else pytest.approx(seconds))


@given(st.text())
def test_no_message_breaks_out_of_its_line(text: str) -> None:
    lines = status_lines(grpc.StatusCode.NOT_FOUND, text)
    assert lines.count(b"\r\n") == (2 if text else 1)
    assert all(0x20 <= byte < 0x7F or byte in b"\r\n" for byte in lines)


def from_base64(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4))
