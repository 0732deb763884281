"""A unary server with one method, and a peer that writes HTTP/1.1 by hand."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.wrappers_pb2 import StringValue

from service_kit.errors import NotFound
from service_kit.interceptor import Context
from service_kit.unary_over_http1.server import ConnectionLimits, UnaryServer
from service_kit.unary_over_http1.unary_method import UnaryMethod
from service_kit.unary_over_http1.wire import framed

ECHO = "/test.Echo/Echo"
WAIT_S = 60.0


class Echo:
    """A handler that answers with its request once `may` is set."""

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
    """A client of the server, in Envoy's place."""

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
        """Send bytes on a new connection; return what `read` returns."""
        reader, writer = await self.connect()
        writer.write(data)
        return await read(reader)

    def has_begun_more_than(self, calls: int) -> bool:
        """Whether the handler has begun more calls than this."""
        return self.echo.begun > calls

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def listening(limits: ConnectionLimits | None = None) -> AsyncIterator[Peer]:
    """Run a server with the method ECHO; yield its peer."""
    echo = Echo()
    methods = {ECHO: UnaryMethod.of(ECHO, echo.answer, StringValue.FromString)}
    server = UnaryServer(methods, limits)
    server.serving = True
    peer = Peer(server, echo, await server.listen("127.0.0.1", 0))
    try:
        async with asyncio.timeout(WAIT_S):
            yield peer
    finally:
        peer.hang_up()
        await server.close(grace_s=0)


def message(text: str = "a") -> bytes:
    """Return a framed message."""
    return framed(StringValue(value=text).SerializeToString())


def call(body: bytes, *headers: str, path: str = ECHO) -> bytes:
    """Return the bytes of a call with this body and these header lines."""
    head = "\r\n".join((f"POST {path} HTTP/1.1", "host: mesh", *headers))
    return f"{head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def read(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes]:
    """Read one response; return its status line, its headers and trailers together, its body."""
    status = (await reader.readline()).decode().strip()
    fields, body = await lines(reader), b""
    if fields.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            assert await reader.readline() == b"\r\n"
        fields |= await lines(reader)
    return status, fields, body


async def lines(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read header or trailer lines up to the empty one."""
    fields = {}
    while (line := (await reader.readline()).decode().strip()) != "":
        name, _, value = line.partition(": ")
        fields[name] = value
    return fields
