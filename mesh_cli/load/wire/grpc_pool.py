"""Unary gRPC calls whose requests are already serialised.

The generator shares the cores of the servers that it measures, and grpcio's client takes a quarter
of a millisecond of CPU a call.
"""

import asyncio
import contextlib
from collections import deque
from itertools import cycle

from mesh_cli.errors import NotUp
from mesh_cli.load.plan.spec import LoadSpec
from mesh_cli.load.wire import http2
from mesh_cli.load.wire.connection_pool import OnAnswer
from mesh_cli.load.wire.grpc_connection import DEADLINE_EXCEEDED, UNAVAILABLE, Call, GrpcConnection
from mesh_cli.load.wire.request_encoding import GRPC_METHOD
from mesh_cli.load.wire.tls import tls

CONNECT_TIMEOUT_S = 10.0
# Seconds between two searches for calls that are out of time.
SWEEP_S = 0.05


class GrpcPool:
    """Makes calls over one or more connections in turn."""

    def __init__(self, spec: LoadSpec, answered: OnAnswer) -> None:
        self._address = spec.address
        self._timeout_s = spec.timeout_s
        self._channels = [_Channel(spec, answered) for _ in range(spec.channels)]
        self._turns = cycle(self._channels)
        self._sweep: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Connect. Raises NotUp."""
        self._loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                for channel in self._channels:
                    await channel.connect()
        except OSError as error:  # a TimeoutError is one
            await self.close()
            raise NotUp(f"{self._address} does not answer gRPC: {error}") from None
        self._sweep = self._loop.call_later(SWEEP_S, self._drop_late)

    def send(self, request: bytes, due: float) -> None:
        """Send a request."""
        next(self._turns).send(Call(request, due, self._loop.time() + self._timeout_s))

    async def close(self) -> None:
        """Close every connection."""
        if self._sweep is not None:
            self._sweep.cancel()
        for channel in self._channels:
            await channel.close()

    def _drop_late(self) -> None:
        now = self._loop.time()
        for channel in self._channels:
            channel.drop_late(now)
        self._sweep = self._loop.call_later(SWEEP_S, self._drop_late)


class _Channel:
    """A connection that is opened again when it is lost, and the calls that wait for it."""

    def __init__(self, spec: LoadSpec, answered: OnAnswer) -> None:
        host, _, port = spec.authority.rpartition(":")
        self._tls = tls(spec, "h2")
        self._host, self._port = host.strip("[]"), int(port)
        self._answered = answered
        self._head = http2.header_block(
            [
                (":method", "POST"),
                (":scheme", "https" if spec.tls else "http"),
                (":path", spec.path or GRPC_METHOD),
                (":authority", spec.authority),
                ("te", "trailers"),
                ("content-type", "application/grpc"),
                ("user-agent", "mesh-bench"),
                ("grpc-timeout", f"{round(spec.timeout_s * 1000)}m"),
                *([("authorization", f"Bearer {spec.token}")] if spec.token else []),
            ]
        )
        self._connection: GrpcConnection | None = None
        # Connections that take no more calls but have calls that are not answered yet.
        self._leaving: list[GrpcConnection] = []
        self._waiting: deque[Call] = deque()
        self._connecting: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Open the connection and wait for the server's settings. Raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: GrpcConnection(self._head, self._answered, self._freed),
            *(self._host, self._port),
            ssl=self._tls,
        )
        try:
            await connection.ready
        except BaseException:
            connection.close()
            raise
        self._connection = connection

    def send(self, call: Call) -> None:
        """Start a call now, or when there is room for it."""
        if not self._waiting and self._connection is not None and self._connection.has_room:
            self._connection.start(call)
        else:
            self._waiting.append(call)
            self._start_waiting()

    def drop_late(self, now: float) -> None:
        """End calls that are out of time."""
        for connection in self._connections():
            connection.drop_late(now)
        while self._waiting and self._waiting[0].deadline <= now:
            self._answered(self._waiting.popleft().due, DEADLINE_EXCEEDED, b"never sent")

    async def close(self) -> None:
        """Close the connections."""
        if self._connecting is not None:
            self._connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._connecting
        for connection in self._connections():
            connection.close()

    def _connections(self) -> list[GrpcConnection]:
        current = [] if self._connection is None else [self._connection]
        return [*self._leaving, *current]

    def _freed(self, untaken: list[Call]) -> None:
        self._waiting.extendleft(reversed(untaken))
        if self._waiting:
            # Not at once: the connection that calls this is in the middle of reading.
            asyncio.get_running_loop().call_soon(self._start_waiting)

    def _start_waiting(self) -> None:
        connection = self._connection
        while self._waiting and connection is not None and connection.has_room:
            connection.start(self._waiting.popleft())
        lost = connection is None or not connection.usable
        if self._waiting and lost and self._connecting is None:
            if connection is not None:
                self._leaving = [left for left in self._leaving if left.busy] + [connection]
                self._connection = None
            self._connecting = asyncio.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self.connect()
        except OSError as error:
            refused = tuple(self._waiting)
            self._waiting.clear()
            for call in refused:
                self._answered(call.due, UNAVAILABLE, f"no connection: {error}".encode())
        finally:
            self._connecting = None
        self._start_waiting()
