"""The HTTP connections of a load against servers that break the rules of HTTP."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mesh_cli.load import ClosedLoop, LoadSpec
from mesh_cli.load.wire.http_pool import HttpPool
from tests.unit.load.load_servers import Serve, response, tcp_server

REQUEST = b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n"


class Requests:
    """Sends requests one after the other and keeps their answers."""

    def __init__(self, address: str) -> None:
        spec = LoadSpec(address, "reviews", ClosedLoop(1), ("x",), protocol="json")
        self.pool = HttpPool(spec, self._answered)
        self._answer: asyncio.Future[tuple[str, bytes]] = asyncio.Future()

    def _answered(self, due: float, code: str, body: bytes) -> None:
        self._answer.set_result((code, body))

    async def send(self) -> tuple[str, bytes]:
        """Send a request; return the code and the bytes of its answer."""
        self._answer = asyncio.Future()
        self.pool.send(REQUEST, 0.0)
        return await asyncio.wait_for(self._answer, 10)


@asynccontextmanager
async def requests_to(serve: Serve) -> AsyncIterator[Requests]:
    """Requests to a server that serves each connection by `serve`."""
    async with tcp_server(serve) as address:
        requests = Requests(address)
        await requests.pool.open()
        try:
            yield requests
        finally:
            await requests.pool.close()


@pytest.mark.parametrize("leftover", [response(b"old"), response(b"old")[:-2], b"HTTP", b"old"])
async def test_a_leftover_of_one_answer_is_never_the_next_one(leftover: bytes) -> None:
    answered, closed = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response(b"new"))
        if not answered.is_set():
            await answered.wait()
            writer.write(leftover)
        await reader.read()
        closed.set()

    async with requests_to(serve) as requests, asyncio.timeout(10):
        assert await requests.send() == ("OK", b"new")
        answered.set()
        await closed.wait()
        assert await requests.send() == ("OK", b"new")


async def test_an_answer_with_a_leftover_fails_and_its_connection_is_not_used_again() -> None:
    connections = iter([response(b"one") + b"HTTP/1.1 200", response(b"two")])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(next(connections))
        await reader.read()

    async with requests_to(serve) as requests:
        assert await requests.send() == ("bad response", b"bytes after the end of the response")
        assert await requests.send() == ("OK", b"two")


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nwhole", ("OK", b"whole")),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwhol", ("connection closed", b"")),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nwhol",
         ("connection closed", b"")),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwhol",
         ("connection closed", b"")),
        (b"HTTP/1.1 200 OK\r\ncontent-le", ("connection closed", b"")),
        (b"", ("connection closed", b"")),
    ],
)  # fmt: skip
async def test_an_answer_that_the_server_breaks_off_is_not_ok(
    sent: bytes, answer: tuple[str, bytes]
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)

    async with requests_to(serve) as requests:
        assert await requests.send() == answer


async def test_an_answer_without_a_length_is_not_completed_by_a_reset() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\npart")
        await writer.drain()
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with requests_to(serve) as requests:
        code, _ = await requests.send()
        assert code == "connection closed"
