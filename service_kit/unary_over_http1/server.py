"""A server of unary gRPC calls over HTTP/1.1.

Clients speak HTTP/2 with Envoy. Envoy speaks HTTP/1.1 with a cluster whose configuration does not
ask for HTTP/2; messages have gRPC's frames and the status comes in HTTP trailers all the same. A
replica then takes 0.45 ms of CPU a call, its engine not counted; with grpcio's server it takes
0.93 ms (two fleets loaded in turn). The difference: no second thread passes each call on, and
there are no HTTP/2 streams to track.
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
from service_kit.interceptor import (
    Context,
    Undecodable,
    message_too_large,
    safe_decoder,
    wrap_unary_response,
)
from service_kit.limits import MAX_MESSAGE_BYTES
from service_kit.unary_over_http1.context import UnaryContext
from service_kit.unary_over_http1.slow_calls import SlowCalls
from service_kit.unary_over_http1.wire import HEAD_BYTES, HEALTH_PATH, unframed

log = logging.getLogger(__name__)

_HEALTH = HEALTH_PATH.encode()
_MOST_BODY_BYTES = MAX_MESSAGE_BYTES + HEAD_BYTES
# Handlers see the headers whose names begin like this. Envoy sends a dozen others, which nobody
# reads.
_VISIBLE_HEADERS = (b"x-mesh-", b"grpc-")
_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LEAVING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
_MALFORMED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_WRONG_VERB = b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class UnaryMethod:
    """The handler of one method and the decoder of its requests."""

    answer: Callable[[Any, Context], Awaitable[Any]]
    """Takes a message or an Undecodable, and the context. It turns errors into `context.abort`,
    which raises aio.AbortError."""

    decode: Callable[[bytes], Any]
    """Returns a message, or an Undecodable when the bytes are none."""

    @classmethod
    def of(
        cls,
        path: str,
        behaviour: Callable[[Any, Context], Awaitable[Any]],
        decode: Callable[[bytes], Any],
    ) -> "UnaryMethod":
        """Give `behaviour` the error mapping and the metrics of every gRPC handler here."""
        return cls(wrap_unary_response(path, behaviour), safe_decoder(decode))


class UnaryServer:
    """Listens on a port of its own; a server that never listened may be closed as well."""

    def __init__(self, methods: Mapping[str, UnaryMethod]) -> None:
        """`methods` by path, for example `/mesh.v1.PredictService/Predict`."""
        self.methods = {path.encode(): method for path, method in methods.items()}
        self.serving = False
        """Whether Envoy's health checks are answered with 200; otherwise with 503."""

        self.closing = False
        self.slow_calls = SlowCalls()
        self._watching_slow_calls: asyncio.Task[None] | None = None
        self._connections: set[UnaryConnection] = set()
        self._connection_closed = asyncio.Event()
        self._listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int) -> int:
        """Accept connections; return the port, which the system chooses when `port` is 0.

        Raises OSError when the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(lambda: UnaryConnection(self), host, port)
        self._watching_slow_calls = asyncio.create_task(self.slow_calls.watch())
        chosen: int = self._listener.sockets[0].getsockname()[1]
        log.info("listening", extra={"address": f"{host}:{chosen}", "protocol": "unary gRPC"})
        return chosen

    async def close(self, grace_s: float) -> None:
        """Accept no more connections, and close each connection once its call is answered.

        After `grace_s` seconds every connection is closed. Until then connections with health
        checks stay open and answer 503, so that Envoy stops sending calls before it is refused.
        """
        self.serving, self.closing = False, True
        if self._listener is not None:
            self._listener.close()
        for connection in tuple(self._connections):
            connection.end_when_idle()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while not all(connection.carries_health_checks for connection in self._connections):
                    self._connection_closed.clear()
                    await self._connection_closed.wait()
        for connection in tuple(self._connections):
            connection.abort()
        if self._watching_slow_calls is not None:
            self._watching_slow_calls.cancel()

    def connection_opened(self, connection: "UnaryConnection") -> None:
        """Count a new connection."""
        self._connections.add(connection)

    def connection_closed(self, connection: "UnaryConnection") -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self._connection_closed.set()


class UnaryConnection(asyncio.Protocol):
    """One connection. As HTTP/1.1 demands, it carries one call at a time."""

    def __init__(self, server: UnaryServer) -> None:
        self._server = server
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._call: asyncio.Task[None] | None = None
        self.carries_health_checks = False

        self._path = b""
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._body_bytes = 0

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        self._server.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._end(_MALFORMED)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol. Cancels the call, since nobody waits for its answer any more."""
        self._parser = None
        if self._call is not None:
            self._call.cancel()
        self._server.connection_closed(self)

    # Called by the parser.

    def on_url(self, url: bytes) -> None:
        """Append to the path, which may come in several parts."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that handlers see; the parser also calls this for trailers."""
        if name.startswith(_VISIBLE_HEADERS):
            self._headers[name] = value

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body; once the body is too large, only count its bytes."""
        self._body_bytes += len(part)
        if self._body_bytes <= _MOST_BODY_BYTES:
            self._body.append(part)

    def on_message_complete(self) -> None:
        """Answer the request, of which every byte has come now."""
        if self._parser is None:
            return
        path, headers, body = self._path, self._headers, b"".join(self._body)
        self._path, self._headers, self._body = b"", {}, []
        size, self._body_bytes = self._body_bytes, 0
        if self._call is not None:
            # Envoy waits for each answer before it sends the next request on a connection, so
            # this peer is not Envoy.
            self._end(_MALFORMED)
            return
        verb = self._parser.get_method()
        if verb == b"GET" and path == _HEALTH:
            self.carries_health_checks = True
            self._write(_HEALTHY if self._server.serving else _LEAVING)
            return
        if verb != b"POST":
            # The response has no body, so it is a complete answer to HEAD too.
            self._write(_WRONG_VERB)
            return
        call = self._answer(path, UnaryContext(headers), body, size)
        self._call = asyncio.get_running_loop().create_task(call)

    # The call.

    async def _answer(self, path: bytes, context: UnaryContext, body: bytes, size: int) -> None:
        slow_calls = self._server.slow_calls
        slow_calls.begin(self, context, self._write)
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
            # Errors of the handler end in AbortError above, so this response cannot be encoded.
            log.exception("call failed", extra={"path": path.decode("latin-1")})
            self.abort()
        finally:
            slow_calls.end(self)
            self._call = None
            if self._server.closing:
                self.end_when_idle()

    def end_when_idle(self) -> None:
        """Close the connection unless it has a call under way or carries health checks."""
        if self._call is None and self._transport is not None and not self.carries_health_checks:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, with what it has not sent."""
        if self._transport is not None:
            self._transport.abort()

    def _end(self, response: bytes) -> None:
        self._parser = None
        self._write(response)
        if self._transport is not None:
            self._transport.close()

    def _write(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)


def _message(method: UnaryMethod, context: UnaryContext, body: bytes, size: int) -> Any:
    """Return the message, or an Undecodable. `size`: bytes of the whole body; when that is too
    large, `body` has its first bytes only.
    """
    if size > _MOST_BODY_BYTES:
        return Undecodable(message_too_large(size - HEAD_BYTES))
    encoding = context.header(b"grpc-encoding").decode("latin-1")
    try:
        return method.decode(unframed(body, encoding, MAX_MESSAGE_BYTES))
    except MeshError as error:
        return Undecodable(error)
