"""A server of unary gRPC calls over HTTP/1.1.

Clients speak HTTP/2 with Envoy. Envoy speaks HTTP/1.1 with a cluster whose configuration does not
ask for HTTP/2; messages have gRPC's frames and the status comes in HTTP trailers all the same. A
replica then takes 0.45 ms of CPU a call, its engine not counted; with grpcio's server it takes
0.93 ms (two fleets loaded in turn). The difference: no second thread passes each call on, and
there are no HTTP/2 streams to track.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

from grpc import StatusCode, aio

from service_kit.identities.http_tls import admits, server_context
from service_kit.identities.identity import Identity
from service_kit.interceptor import Context
from service_kit.unary_over_http1.context import UnaryContext
from service_kit.unary_over_http1.request_reader import Refused, Request, RequestReader
from service_kit.unary_over_http1.slow_calls import SlowCalls
from service_kit.unary_over_http1.unary_method import UnaryMethod
from service_kit.unary_over_http1.wire import HEALTH_PATH

log = logging.getLogger(__name__)

_HEALTH = HEALTH_PATH.encode()
_HEALTHY = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_LEAVING = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_WRONG_VERB = b"HTTP/1.1 405 Method Not Allowed\r\nallow: POST\r\ncontent-length: 0\r\n\r\n"


@dataclass(frozen=True)
class ConnectionLimits:
    """What one server takes of its peers."""

    connections: int = 4096
    """Connections at once. A further one takes the place of the one that is idle longest; while all
    have calls it is refused."""

    head_s: float = 10.0
    """Seconds for the first request to begin, and for the headers of any request to come."""

    request_s: float = 60.0
    """Seconds for a request to come. Envoy gives no call more than half of this."""


class UnaryServer:
    """Listens on a port of its own; a server that never listened may be closed as well."""

    def __init__(
        self, methods: Mapping[str, UnaryMethod], limits: ConnectionLimits | None = None
    ) -> None:
        """`methods` by path, for example `/mesh.v1.PredictService/Predict`."""
        self.methods = {path.encode(): method for path, method in methods.items()}
        self.serving = False
        """Whether Envoy's health checks are answered with 200; otherwise with 503."""

        self.closing = False
        self.limits = limits or ConnectionLimits()
        self.slow_calls = SlowCalls()
        self._watching_slow_calls: asyncio.Task[None] | None = None
        self._connections: set[UnaryConnection] = set()
        self._connection_closed = asyncio.Event()
        self._listener: asyncio.Server | None = None

    async def listen(self, host: str, port: int, identity: Identity | None = None) -> int:
        """Accept connections; return the port, which the system chooses when `port` is 0.

        With an `identity`, only Envoy's connections are accepted, over mutual TLS. Raises OSError
        when the port is taken.
        """
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: UnaryConnection(self),
            host,
            port,
            ssl=server_context(identity),
            ssl_handshake_timeout=self.limits.head_s if identity else None,
        )
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

    def admits(self, connection: "UnaryConnection") -> bool:
        """Count a new connection, unless there are too many and each of them has a call."""
        if len(self._connections) >= self.limits.connections:
            idle = [other for other in self._connections if other.is_idle]
            if not idle:
                return False
            oldest = min(idle, key=lambda other: other.last_used)
            self._connections.discard(oldest)
            oldest.abort()
        self._connections.add(connection)
        return True

    def connection_closed(self, connection: "UnaryConnection") -> None:
        """Forget a connection that has ended."""
        self._connections.discard(connection)
        self._connection_closed.set()


class UnaryConnection(asyncio.Protocol):
    """One connection. As HTTP/1.1 demands, it carries one call at a time."""

    def __init__(self, server: UnaryServer) -> None:
        self._server = server
        self._reader: RequestReader | None = RequestReader(self._take)
        self._transport: asyncio.Transport | None = None
        self._call: asyncio.Task[None] | None = None
        self._slowness: asyncio.TimerHandle | None = None
        self.carries_health_checks = False
        self.last_used = time.monotonic()
        """When the connection was opened or its latest request had come, by time.monotonic."""

    @property
    def is_idle(self) -> bool:
        """Whether no call is under way."""
        return self._call is None

    # Called by asyncio.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)
        if not admits(transport):
            self._reader = None
            self._transport.abort()
        elif self._server.admits(self):
            self._watch()
        else:
            self._end(_FULL)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._reader is None:
            return
        try:
            self._reader.feed(data)
        except Refused as refused:
            self._end(refused.response)
            return
        if self._slowness is None:
            self._watch()

    def pause_writing(self) -> None:
        """See asyncio.Protocol. Takes no more calls of a peer that does not read its answers."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        if self._transport is not None:
            self._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol. Cancels the call, since nobody waits for its answer any more."""
        self._reader = None
        if self._slowness is not None:
            self._slowness.cancel()
        if self._call is not None:
            self._call.cancel()
        self._server.connection_closed(self)

    def _watch(self) -> None:
        """End the connection when the request that is coming is not whole in time."""
        self._slowness = None
        if self._reader is None or self._reader.arrived is None:
            return
        limits = self._server.limits
        limit = limits.head_s if self._reader.in_head else limits.request_s
        left = self._reader.arrived + limit - time.monotonic()
        if left > 0:
            self._slowness = asyncio.get_running_loop().call_later(left, self._watch)
        else:
            self._end(_TOO_SLOW)

    # Called by the reader.

    def _take(self, request: Request) -> None:
        """Answer a request."""
        if self._call is not None:
            # Envoy waits for each answer before it sends the next request on a connection, so
            # this peer is not Envoy.
            raise Refused(b"400 Bad Request")
        self.last_used = request.arrived
        if request.verb == b"GET" and request.path == _HEALTH:
            self.carries_health_checks = True
            self._write(_HEALTHY if self._server.serving else _LEAVING)
        elif request.verb != b"POST":
            # The response has no body, so it is a complete answer to HEAD too.
            self._write(_WRONG_VERB)
        else:
            self._call = asyncio.get_running_loop().create_task(self._answer(request))

    # The call.

    async def _answer(self, request: Request) -> None:
        context = UnaryContext(request.headers, request.arrived)
        slow_calls = self._server.slow_calls
        slow_calls.begin(self, context, self._write)
        try:
            method = self._server.methods.get(request.path)
            if method is None:
                await context.abort(StatusCode.UNIMPLEMENTED, "there is no such method here")
            message = method.message(request)
            response = await method.answer(message, cast(Context, context))
            self._write(context.answered(response.SerializeToString(), self._server.closing))
        except aio.AbortError:
            self._write(context.failed(self._server.closing))
        except Exception:
            # Errors of the handler end in AbortError above, so this response cannot be encoded.
            log.exception("call failed", extra={"path": request.path.decode("latin-1")})
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
        self._reader = None
        self._write(response)
        if self._transport is not None:
            self._transport.close()

    def _write(self, response: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(response)
