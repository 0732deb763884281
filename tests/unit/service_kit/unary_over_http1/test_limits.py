"""What the unary server takes of its peers: sizes, times, numbers; and what it does not read."""

import asyncio
import tracemalloc
from contextlib import suppress
from functools import partial

import pytest

from service_kit.limits import MAX_HEADER_BYTES
from service_kit.unary_over_http1.request_reader import MAX_BODY_BYTES, Request, RequestReader
from service_kit.unary_over_http1.server import ConnectionLimits
from tests.real_parts.waiting import until
from tests.unit.service_kit.unary_over_http1.echo_peer import (
    ECHO,
    Peer,
    call,
    listening,
    message,
    read,
)

SOON = ConnectionLimits(head_s=0.05, request_s=0.1)
REQUEST_LINE = f"POST {ECHO} HTTP/1.1\r\n"
CHUNKED = f"{REQUEST_LINE}transfer-encoding: chunked\r\n"
TRAILERS = "x-mesh-role: challenger\r\nx-mesh-mirror: 1\r\ngrpc-timeout: 1n\r\nx-mesh-last: 1\r\n"


def chunked(body: bytes, trailers: str, *headers: str) -> bytes:
    """The bytes of a call whose body has trailers."""
    head = "".join(f"{header}\r\n" for header in headers)
    chunk = b"%x\r\n%b\r\n0\r\n" % (len(body), body)
    return f"{CHUNKED}{head}\r\n".encode() + chunk + f"{trailers}\r\n".encode()


@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_trailers_are_not_headers_of_this_call_or_the_next(size: int) -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        data = chunked(message("a"), TRAILERS, "X-Mesh-Key: k")
        for begin in range(0, len(data), size):
            writer.write(data[begin : begin + size])
            await writer.drain()
        assert (await read(reader))[2] == message("a")
        assert peer.echo.metadata == {"x-mesh-key": "k"}
        assert peer.echo.seconds_left is None
        writer.write(call(message("b"), "x-mesh-key: l"))
        assert (await read(reader))[2] == message("b")
        assert peer.echo.metadata == {"x-mesh-key": "l"}


async def test_names_of_headers_are_read_in_any_case() -> None:
    async with listening() as peer:
        await peer.ask(call(message(), "X-MESH-ROLE: challenger", "Grpc-Timeout: 5S"))
        assert peer.echo.metadata["x-mesh-role"] == "challenger"
        assert 0 < (peer.echo.seconds_left or 0) <= 5


async def test_a_head_that_is_too_large_fails_its_call_alone() -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        largest = "a" * (MAX_HEADER_BYTES - 100)
        for size, code in ((largest, "0"), ("a" * 30_000, "3"), ("", "0")):
            writer.write(call(message(), f"x-mesh-key: {size}"))
            status, fields, _ = await read(reader)
            assert (status, fields["grpc-status"]) == ("HTTP/1.1 200 OK", code)
        assert peer.echo.begun == 2


async def test_many_small_headers_are_too_large_together() -> None:
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(message(), *(f"x-{n}: a" for n in range(5_000))))
        assert fields["grpc-status"] == "3"
        assert fields["grpc-message"].startswith("metadata: has ")


@pytest.mark.parametrize(
    "begin",
    [
        f"{REQUEST_LINE}x-mesh-key: ",
        f"{REQUEST_LINE}x-",
        "POST /",
        f"{CHUNKED}\r\n1\r\na\r\n0\r\nx-mesh-key: ",
        f"{CHUNKED}\r\n1;extension=",
    ],
    ids=["header", "name of a header", "path", "trailer", "extension of a chunk"],
)
async def test_what_has_no_end_is_refused(begin: str) -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        writer.write(begin.encode())
        for _ in range(100):
            writer.write(b"a" * 1_000)
        assert (await read(reader))[0] == "HTTP/1.1 431 Request Header Fields Too Large"
        assert await ended(reader)


@pytest.mark.parametrize(
    "data",
    [
        "",
        "P",
        REQUEST_LINE,
        f"{REQUEST_LINE}x-a: ",
        f"{REQUEST_LINE}content-length: 9\r\n\r\nhal",
        f"{CHUNKED}\r\n1\r\na\r\n",
        f"{CHUNKED}\r\n0\r\nx-trailer: 1\r\n",
    ],
)
async def test_a_peer_that_dribbles_is_told_to_go(data: str) -> None:
    async with listening(SOON) as peer:
        reader, writer = await peer.connect()
        writer.write(data.encode())
        assert (await read(reader))[0] == "HTTP/1.1 408 Request Timeout"
        assert await ended(reader)


async def test_a_request_that_never_stops_coming_has_to_end_in_time() -> None:
    async with listening(SOON) as peer:
        reader, writer = await peer.connect()
        writer.write(f"{REQUEST_LINE}content-length: 1000000\r\n\r\n".encode())
        while not reader.at_eof() and not writer.is_closing():
            writer.write(b"a")
            try:
                async with asyncio.timeout(0.01):
                    assert (await read(reader))[0] == "HTTP/1.1 408 Request Timeout"
                    break
            except TimeoutError:
                continue
        assert peer.echo.begun == 0


async def test_a_connection_between_two_calls_and_a_slow_answer_are_not_dribbling() -> None:
    async with listening(SOON) as peer:
        peer.echo.may.clear()
        reader, writer = await peer.connect()
        writer.write(call(message("slow")))
        await asyncio.sleep(5 * SOON.request_s)
        peer.echo.may.set()
        assert (await read(reader))[2] == message("slow")
        await asyncio.sleep(5 * SOON.request_s)
        writer.write(call(message("later")))
        assert (await read(reader))[2] == message("later")


async def test_a_deadline_runs_from_the_first_byte_of_its_call() -> None:
    async with listening() as peer:
        reader, writer = await peer.connect()
        data = call(message(), "grpc-timeout: 20m")
        writer.write(data[:-1])
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.write(data[-1:])
        await read(reader)
        assert peer.echo.seconds_left == 0


async def open_idle(peer: Peer) -> asyncio.StreamReader:
    """A connection whose call has been answered."""
    reader, writer = await peer.connect()
    writer.write(call(message()))
    await read(reader)
    return reader


async def test_a_connection_too_many_takes_the_place_of_the_longest_idle() -> None:
    async with listening(ConnectionLimits(connections=3)) as peer:
        peer.echo.may.clear()
        busy, writer = await peer.connect()
        writer.write(call(message("busy")))
        await until(lambda: peer.echo.begun == 1)
        peer.echo.may.set()
        assert (await read(busy))[2] == message("busy")
        first, second = await open_idle(peer), await open_idle(peer)
        writer.write(call(message("again")))
        assert (await read(busy))[2] == message("again")
        third = await open_idle(peer)
        assert await ended(first)
        assert not any(reader.at_eof() for reader in (busy, second, third))


async def test_a_connection_too_many_is_refused_while_all_others_have_calls() -> None:
    async with listening(ConnectionLimits(connections=2)) as peer:
        peer.echo.may.clear()
        busy = [await peer.connect() for _ in range(2)]
        for _, writer in busy:
            writer.write(call(message("busy")))
        await until(lambda: peer.echo.begun == 2)
        reader, _ = await peer.connect()
        assert (await read(reader))[0] == "HTTP/1.1 503 Service Unavailable"
        assert await ended(reader)
        peer.echo.may.set()
        for reader, _ in busy:
            assert (await read(reader))[2] == message("busy")


async def test_calls_of_a_peer_that_reads_no_answers_are_not_taken() -> None:
    async with listening() as peer:
        _, writer = await peer.connect()
        large = call(message("a" * 1_000_000))
        begun, taken = -1, 0
        while taken > begun:
            begun = taken
            writer.write(large)
            with suppress(TimeoutError):
                await until(partial(peer.has_begun_more_than, begun), timeout_s=1)
            taken = peer.echo.begun
            assert taken < 100


def test_a_body_of_single_bytes_takes_hardly_more_memory_than_its_size() -> None:
    taken: list[Request] = []
    reader = RequestReader(taken.append)
    reader.feed(f"{CHUNKED}\r\n".encode())
    tracemalloc.start()
    for _ in range(100):
        reader.feed(b"1\r\nx\r\n" * 1_000)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reader.feed(b"0\r\n\r\n")
    assert (taken[0].body, taken[0].body_bytes) == (b"x" * 100_000, 100_000)
    assert held < 200_000


def test_only_the_size_is_kept_of_a_body_beyond_the_limit() -> None:
    taken: list[Request] = []
    reader = RequestReader(taken.append)
    reader.feed(f"{REQUEST_LINE}content-length: {3 * MAX_BODY_BYTES}\r\n\r\n".encode())
    part = b"a" * MAX_BODY_BYTES
    for _ in range(3):
        reader.feed(part)
    assert (len(taken[0].body), taken[0].body_bytes) == (MAX_BODY_BYTES, 3 * MAX_BODY_BYTES)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Wait for the end of a connection, which may come as a reset."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True
