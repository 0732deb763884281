"""Requests over HTTP/1.1 on connections that stay open.

The generator shares the cores of the servers that it measures. This pool takes a few hundredths of
a millisecond of CPU a request, a general HTTP client up to a millisecond.
"""

import asyncio
from collections import deque

from mesh_cli.errors import NotUp
from mesh_cli.load.plan.spec import MAX_CONNECTIONS, ClosedLoop, LoadSpec
from mesh_cli.load.wire.connection_pool import OK, OnAnswer
from mesh_cli.load.wire.http_response import BadResponse, Response, ResponseReader
from mesh_cli.load.wire.tls import tls

CONNECT_TIMEOUT_S = 10.0
# Seconds between two searches for requests that are out of time.
SWEEP_S = 0.05

TIMEOUT = "timeout"
CLOSED = "connection closed"
REFUSED = "connection refused"
BAD_RESPONSE = "bad response"


class HttpPool:
    """A pool of connections, each with one request at a time; more are opened as needed."""

    def __init__(self, spec: LoadSpec, answered: OnAnswer) -> None:
        host, _, port = spec.authority.rpartition(":")
        self._tls = tls(spec, "http/1.1")
        self._host, self._port = host.strip("[]"), int(port)
        self._timeout_s = spec.timeout_s
        clients = spec.loop.clients if isinstance(spec.loop, ClosedLoop) else 0
        self._limit = max(clients, MAX_CONNECTIONS)
        self._answered = answered
        self._idle: list[_Connection] = []
        # When the connection's request was due, and when it is out of time. The oldest come first:
        # every request has the same timeout.
        self._busy: dict[_Connection, tuple[float, float]] = {}
        self._waiting: deque[tuple[bytes, float, float]] = deque()
        self._opening: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Open the first connection. Raises NotUp."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._idle.append(await self._connect())
        except OSError as error:  # a TimeoutError is one
            raise NotUp(f"{self._host}:{self._port} does not answer: {error}") from None
        self._sweep = self._loop.call_later(SWEEP_S, self._drop_late)

    def send(self, request: bytes, due: float) -> None:
        """Send a request on an idle connection, else on the next one that becomes free."""
        while self._idle:
            connection = self._idle.pop()
            # The server may have closed it in the meantime.
            if not connection.transport.is_closing():
                self._start(connection, request, due)
                return
        self._waiting.append((request, due, self._loop.time() + self._timeout_s))
        self._grow()

    async def close(self) -> None:
        """Close every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in (*self._idle, *self._busy):
            connection.transport.abort()

    async def _connect(self) -> "_Connection":
        _, connection = await self._loop.create_connection(
            lambda: _Connection(self), self._host, self._port, ssl=self._tls
        )
        return connection

    def _grow(self) -> None:
        """Open connections for the requests that wait."""
        room = self._limit - len(self._busy) - len(self._opening)
        for _ in range(min(room, len(self._waiting) - len(self._opening))):
            task = self._loop.create_task(self._open_one())
            self._opening.add(task)
            task.add_done_callback(self._opening.discard)

    async def _open_one(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                connection = await self._connect()
        except OSError as error:
            if self._waiting:
                _, due, _ = self._waiting.popleft()
                self._answered(due, REFUSED, str(error).encode())
            return
        self._free(connection)

    def _start(self, connection: "_Connection", request: bytes, due: float) -> None:
        self._busy[connection] = (due, self._loop.time() + self._timeout_s)
        connection.transport.write(request)

    def _free(self, connection: "_Connection") -> None:
        if self._waiting:
            request, due, _ = self._waiting.popleft()
            self._start(connection, request, due)
        else:
            self._idle.append(connection)

    def is_busy(self, connection: "_Connection") -> bool:
        """Whether a request waits for its answer on this connection."""
        return connection in self._busy

    def finished(self, connection: "_Connection", response: Response) -> None:
        """A busy connection has the response to its request."""
        due, _ = self._busy.pop(connection)
        if response.keep_alive:
            self._free(connection)
        else:
            connection.transport.abort()
            self._grow()
        good = 200 <= response.status < 300
        self._answered(due, OK if good else f"HTTP {response.status}", response.body)

    def failed(self, connection: "_Connection", error: str, message: bytes = b"") -> None:
        """Drop a connection; its request, if it has one, has failed."""
        connection.transport.abort()
        if connection in self._busy:
            due, _ = self._busy.pop(connection)
            self._grow()
            self._answered(due, error, message)
        elif connection in self._idle:
            self._idle.remove(connection)

    def _drop_late(self) -> None:
        now = self._loop.time()
        while self._busy:
            connection, (_, deadline) = next(iter(self._busy.items()))
            if deadline > now:
                break
            self.failed(connection, TIMEOUT)
        while self._waiting and self._waiting[0][2] <= now:
            _, due, _ = self._waiting.popleft()
            self._answered(due, TIMEOUT, b"no connection was free")
        self._sweep = self._loop.call_later(SWEEP_S, self._drop_late)


class _Connection(asyncio.Protocol):
    """One connection to the server; it carries one request at a time."""

    transport: asyncio.Transport

    def __init__(self, pool: HttpPool) -> None:
        self._pool = pool
        self._reader = ResponseReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if not self._pool.is_busy(self):
            # Nothing was asked: the server says goodbye, or these bytes belong to the last answer.
            self._pool.failed(self, BAD_RESPONSE)
            return
        try:
            response = self._reader.feed(data)
        except BadResponse as error:
            self._pool.failed(self, BAD_RESPONSE, str(error).encode())
            return
        if response is not None:
            self._pool.finished(self, response)

    def connection_lost(self, exc: Exception | None) -> None:
        response = self._reader.end() if exc is None and self._pool.is_busy(self) else None
        if response is not None:
            self._pool.finished(self, response)
        else:
            self._pool.failed(self, CLOSED, str(exc or "").encode())
