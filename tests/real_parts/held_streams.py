"""A client over HTTP/2 that opens many requests on one connection, and ends some if told so."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError

Headers = Sequence[tuple[str, str]]
_FRAME_BYTES = 16_384


class HeldStreams:
    """One connection. Its streams are open until the mesh ends them."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._connection = H2Connection(H2Configuration(header_encoding="utf-8"))
        self._connection.initiate_connection()
        self._unsent: dict[int, int] = {}
        self._to_end: set[int] = set()
        self.open: set[int] = set()
        self.statuses: dict[int, str] = {}
        """HTTP or gRPC status that a stream was ended with."""

        self.reset: dict[int, ErrorCodes | int | None] = {}
        self.closed = asyncio.Event()

    @property
    def sent_all(self) -> bool:
        """Whether all bytes of all open streams have left."""
        return not any(self._unsent.get(stream, 0) for stream in self.open)

    @property
    def most_streams(self) -> int:
        """How many streams the mesh allows at once on this connection."""
        return self._connection.remote_settings.max_concurrent_streams

    def start(
        self, headers: Headers, body: bytes = b"", more_bytes: int = 0, end: bool = False
    ) -> int:
        """Open a stream, send `body`, and after it `more_bytes` blanks as the mesh lets them in.

        `end`: the request ends with them.
        """
        stream = self._connection.get_next_available_stream_id()
        self._connection.send_headers(stream, headers)
        if body:
            self._connection.send_data(stream, body)
        self.open.add(stream)
        self._unsent[stream] = more_bytes
        if end:
            self._to_end.add(stream)
        return stream

    def flush(self) -> None:
        """Send what the windows of flow control have room for."""
        for stream in tuple(self.open):
            with suppress(ProtocolError):
                while left := self._unsent[stream]:
                    room = self._connection.local_flow_control_window(stream)
                    size = min(left, room, _FRAME_BYTES)
                    if size <= 0:
                        break
                    self._connection.send_data(stream, b" " * size)
                    self._unsent[stream] -= size
                if not self._unsent[stream] and stream in self._to_end:
                    self._to_end.discard(stream)
                    self._connection.end_stream(stream)
        if not self._writer.is_closing():
            self._writer.write(self._connection.data_to_send())

    async def read(self) -> None:
        """Read until the connection ends."""
        with suppress(OSError):
            while data := await self._reader.read(65_536):
                for event in self._connection.receive_data(data):
                    self._see(event)
                self.flush()
        self.open.clear()
        self.closed.set()

    def _see(self, event: Event) -> None:
        if isinstance(event, ResponseReceived):
            fields = {str(name): str(value) for name, value in event.headers or ()}
            self.statuses[event.stream_id] = fields.get("grpc-status", fields[":status"])
        elif isinstance(event, StreamReset):
            self.reset[event.stream_id] = event.error_code
            self.open.discard(event.stream_id)
        elif isinstance(event, StreamEnded):
            self.open.discard(event.stream_id)
        elif isinstance(event, ConnectionTerminated):
            self.closed.set()
        elif isinstance(event, WindowUpdated):
            return


@asynccontextmanager
async def held_streams(address: str) -> AsyncIterator[HeldStreams]:
    """Connect; the connection is cut at the end."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    held = HeldStreams(reader, writer)
    held.flush()
    reading = asyncio.create_task(held.read())
    try:
        yield held
    finally:
        writer.transport.abort()
        await reading


def grpc_head(address: str, path: str, extra: Headers = ()) -> Headers:
    """The headers of a gRPC call."""
    return (
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address)),
        *(("content-type", "application/grpc"), ("te", "trailers"), *extra),
    )


def json_head(address: str, path: str) -> Headers:
    """The headers of a POST of JSON."""
    return (
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", address)),
        ("content-type", "application/json"),
    )
