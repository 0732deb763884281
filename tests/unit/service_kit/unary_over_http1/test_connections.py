"""Connections of the unary server: their calls, health checks, bad input and their end."""

import asyncio
from contextlib import suppress

import pytest

from tests.real_parts.waiting import until
from tests.unit.service_kit.unary_over_http1.echo_peer import (
    ECHO,
    WAIT_S,
    call,
    listening,
    message,
    read,
)


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


async def test_an_answer_that_cannot_be_written_ends_the_connection() -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(call(message("not written")))
        # The system closes the connection or resets it.
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("verb", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", [ECHO, "/v2/health/live", "/"])
async def test_another_verb_than_post_is_refused_and_the_next_call_is_answered(
    verb: str, path: str
) -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(call(message(), path=path).replace(b"POST", verb.encode(), 1))
        status, fields, body = await read(reader)
        assert (status, fields["allow"], body) == ("HTTP/1.1 405 Method Not Allowed", "POST", b"")
        writer.write(call(message("next")))
        assert (await read(reader))[2] == message("next")


@pytest.mark.parametrize(
    "data", [b"hello\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n", b"\x16\x03\x01"]
)
async def test_bytes_that_are_not_http_are_refused(data: bytes) -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(data)
        writer.write_eof()
        assert (await reader.read()).startswith(b"HTTP/1.1 400 Bad Request\r\n")


async def test_a_call_before_the_answer_to_the_last_one_ends_the_connection() -> None:
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


async def test_closing_answers_calls_under_way_and_ends_idle_connections() -> None:
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
