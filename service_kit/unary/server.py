"""Unary gRPC calls over HTTP/1.1, as Envoy makes them to a cluster without HTTP/2.

Messages are framed as ever and the status comes in trailers. Clients speak HTTP/2 with Envoy; only
the hop behind it is another one. With it a replica takes 0.45 ms of CPU a call beside its engine,
with grpcio's server 0.93 (two fleets loaded in turn): there is no second thread that hands each
call over, and there are no streams to keep account of.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import httptools
from grpc import StatusCode, aio

from service_kit.errors import MeshError
from service_kit.interceptor import Context, Undecodable, decoder, too_large, unary_behaviour
from service_kit.limits import MAX_MESSAGE_BYTES
from service_kit.unary.context import UnaryContext
from service_kit.unary.wire import HEAD_BYTES, HEALTH_PATH, unframed

log = logging.getLogger(__name__)

_HEALTH = HEALTH_PATH.encode()
_MOST_BODY_BYTES = MAX_MESSAGE_BYTES + HEAD_BYTES
# What handlers can see of the headers: of a dozen that Envoy sends nobody asks for the others.
_OURS = (b"x-mesh-", b"grpc-")
_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LEAVING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
_MALFORMED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_WRONG_VERB = b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class UnaryMethod:
    """What answers the calls of one method."""

    answer: Callable[[Any, Context], Awaitable[Any]]
    """Takes a message or an Undecodable; errors have become `context.abort` already."""

    decode: Callable[[bytes], Any]

    @classmethod
    def of(
        cls,
        path: str,
        behaviour: Callable[[Any, Context], Awaitable[Any]],
        decode: Callable[[bytes], Any],
    ) -> "UnaryMethod":
        """The method at `path`, with the errors and metrics of every gRPC handler."""
        return cls(unary_behaviour(path, behaviour), decoder(decode))


class UnaryServer:
    """Listens on a port of its own; closing one that never listened is harmless."""

    def __init__(self, methods: Mapping[str, UnaryMethod]) -> None:
        """`methods` by path, `/mesh.v1.PredictService/Predict`."""
        self.methods = {path.encode(): method for path, method in methods.items()}
        self.serving = False
        """What its health says."""

        self.closing = False
        self._connections: set[UnaryConnection] = set()
        self._one_gone = asyncio.Event()
        self._listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Take connections; returns the port, which the system chooses when `port` is 0.

        Raises OSError when the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: UnaryConnection(self), host, port)
        chosen: int = self._listener.sockets[0].getsockname()[1]
        log.info("listening", extra={"address": f"{host}:{chosen}", "protocol": "unary gRPC"})
        return chosen

    async def close(self, grace_s: float) -> None:
        """Take no more connections, and end each once its call is answered.

        After `grace_s` seconds every connection ends. Until then a connection that asks for health
        is told that calls are not welcome, so that Envoy need not find out by being refused.
        """
        self.serving, self.closing = False, True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._connections):
            connection.end_when_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while not all(connection.asks_health for connection in self._connections):
                    self._one_gone.clear()
                    await self._one_gone.wait()
        for connection in tuple(self._connections):
            connection.abort()

    def made(self, connection: "UnaryConnection") -> None:
        """A connection is there."""
        self._connections.add(connection)

    def gone(self, connection: "UnaryConnection") -> None:
        """A connection is lost."""
        self._connections.discard(connection)
        self._one_gone.set()


class UnaryConnection(asyncio.Protocol):
    """One connection; one call at a time, as HTTP/1.1 has it."""

    def __init__(self, server: UnaryServer) -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._call: asyncio.Task[None] | None = None
        self.asks_health = False
        """It carries health checks."""

        self._path = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.made(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(_MALFORMED)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol. Nobody waits for the call any more."""
        self._parser = None
        if self._call is not None:
            self._call.cancel()
        self._server.gone(self)

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        """The path, in parts when it came in parts."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or after the body a trailer."""
        if name.startswith(_OURS):
            self._headers[name] = value

    def on_body(self, part: bytes) -> None:
        """A part of the body. What is too much anyway is only counted."""
        self._body_bytes += len(part)
        if self._body_bytes <= _MOST_BODY_BYTES:
            self._body.append(part)

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._parser is None:
            return
        path, headers, body = self._path, self._headers, b"".join(self._body)
        self._path, self._headers, self._body = b"", {}, []
        size, self._body_bytes = self._body_bytes, 0
        if self._call is not None:
            # Whoever sends the next request before the answer to the last one is not Envoy.
            self._end(_MALFORMED)
            return
        verb = self._parser.get_method()
        if verb == b"GET" and path == _HEALTH:
            self.asks_health = True
            self._write(_HEALTHY if self._server.serving else _LEAVING)
            return
        if verb != b"POST":
            # Without content, so that it is a whole answer to a HEAD as well.
            self._write(_WRONG_VERB)
            return
        call = self._answer(path, UnaryContext(headers), body, size)
        self._call = asyncio.get_running_loop().create_task(call)

    # The call.

    async def _answer(self, path: bytes, context: UnaryContext, body: bytes, size: int) -> None:
        try:
            method = self._server.methods.get(path)
            if method is None:
                await context.abort(StatusCode.UNIMPLEMENTED, "there is no such method here")
            request = _message(method, context, body, size)
            response = await method.answer(request, cast(Context, context))
            self._write(context.answered(response.SerializeToString(), self._server.closing))
        except aio.AbortError:
            self._write(context.failed(self._server.closing))
        except Exception:
            # Not the handler's, whose errors have a status: an answer that cannot be written.
            log.exception("call failed", extra={"path": path.decode("latin-1")})
            self.abort()
        finally:
            self._call = None
            if self._server.closing:
                self.end_when_idle()

    def end_when_idle(self) -> None:
        """Close, unless a call is being answered or health asked for."""
        if self._call is None and self._transport is not None and not self.asks_health:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, last: bytes) -> None:
        self._parser = None
        self._write(last)
        if self._transport is not None:
            self._transport.close()

    def _write(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


def _message(method: UnaryMethod, context: UnaryContext, body: bytes, size: int) -> Any:
    """The message in a body of `size` bytes, of which the first are given; or an Undecodable."""
    if size > _MOST_BODY_BYTES:
        return Undecodable(too_large(size - HEAD_BYTES))
    encoding = context.header(b"grpc-encoding").decode("latin-1")
    try:
        return method.decode(unframed(body, encoding, MAX_MESSAGE_BYTES))
    except MeshError as error:
        return Undecodable(error)
