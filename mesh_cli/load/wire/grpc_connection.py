"""One HTTP/2 connection that carries unary gRPC calls."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import grpc

from mesh_cli.load.wire import http2
from mesh_cli.load.wire.door import OK, Answered
from mesh_cli.load.wire.http2 import BadFrame, Frame

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.name
INTERNAL = grpc.StatusCode.INTERNAL.name
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED.name

# gRPC's names of HTTP/2's error codes; all others are INTERNAL.
_RESET = {0x7: UNAVAILABLE, 0x8: "CANCELLED", 0xB: "RESOURCE_EXHAUSTED", 0xC: "PERMISSION_DENIED"}
_STATUS = {str(code.value[0]).encode(): code.name for code in grpc.StatusCode}
_PREFIX = struct.Struct(">BI")
# Answers of any size need no window of their own: the connection's is topped up at half of it.
_TOP_UP = http2.LARGEST_WINDOW // 2


class Call(NamedTuple):
    """A call to make: the serialised request, when it was due, when it is out of time."""

    request: bytes
    due: float
    deadline: float


@dataclass(slots=True)
class _Stream:
    call: Call
    window: int
    body: bytes = b""
    headers: bytes = b""
    """Header block, while it is not whole."""
    ends: bool = False
    """Whether the block that is not whole ends the stream."""
    unsent: bytes = b""


class GrpcConnection(asyncio.Protocol):
    """Makes calls, and tells how each was answered."""

    def __init__(
        self, head: bytes, answered: Answered, freed: Callable[[list[Call]], None]
    ) -> None:
        """`head`: header block of every call. `freed` is told when there is room for another call,
        with the calls that the server did not take because it is going away."""
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.usable = True
        """Whether it takes more calls, now or when one has ended."""
        self._head = head
        self._answered = answered
        self._freed = freed
        self._frames = http2.FrameReader()
        self._headers = http2.HeaderReader()
        self._streams: dict[int, _Stream] = {}
        self._next_stream = 1
        self._most_streams = http2.LARGEST_WINDOW
        self._window = http2.FIRST_WINDOW
        self._stream_window = http2.FIRST_WINDOW
        self._blocked: list[int] = []
        self._received = 0
        self._out: list[bytes] = []
        self._reading = False

    @property
    def has_room(self) -> bool:
        """Whether a call can start now."""
        return self.usable and len(self._streams) < self._most_streams

    @property
    def busy(self) -> bool:
        """Whether calls of it are still to be answered."""
        return bool(self._streams)

    def start(self, call: Call) -> None:
        """Start a call; there must be room."""
        number = self._next_stream
        self._next_stream += 2
        data = _PREFIX.pack(0, len(call.request)) + call.request
        size = len(data)
        stream = self._streams[number] = _Stream(call, self._stream_window)
        self._write(http2.frame(http2.HEADERS, http2.END_HEADERS, number, self._head))
        if size <= self._window and size <= stream.window and size <= http2.MAX_FRAME:
            self._window -= size
            self._write(http2.frame(http2.DATA, http2.END_STREAM, number, data))
        else:
            stream.unsent = data
            self._blocked.append(number)
            self._send_blocked()
        self._flush()

    def drop_late(self, now: float) -> None:
        """End calls that are out of time; the oldest come first."""
        while self._streams:
            number, stream = next(iter(self._streams.items()))
            if stream.call.deadline > now:
                return
            self._write(http2.frame(http2.RST_STREAM, 0, number, struct.pack(">I", http2.CANCEL)))
            self._flush()
            self._end(number, DEADLINE_EXCEEDED, b"no answer in time")

    def close(self) -> None:
        """Close the connection."""
        self.usable = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        values = {
            http2.HEADER_TABLE_SIZE: 0,
            http2.ENABLE_PUSH: 0,
            http2.INITIAL_WINDOW_SIZE: http2.LARGEST_WINDOW,
        }
        more = http2.LARGEST_WINDOW - http2.FIRST_WINDOW
        self._write(http2.PREFACE + http2.settings(values) + http2.window_update(0, more))
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        # Calls that start because others ended leave together: one system call.
        self._reading = True
        try:
            for found in self._frames.feed(data):
                self._read(found)
        except (BadFrame, IndexError, struct.error) as error:
            self._lost(INTERNAL, f"no HTTP/2: {error}")
        finally:
            self._reading = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the calls that were not answered."""
        self._lost(UNAVAILABLE, f"connection closed: {exc or 'by the server'}")

    def _read(self, found: Frame) -> None:
        if found.kind == http2.DATA:
            self._read_data(found)
        elif found.kind in (http2.HEADERS, http2.CONTINUATION):
            self._read_headers(found)
        elif found.kind == http2.SETTINGS:
            self._read_settings(found)
        elif found.kind == http2.PING and not found.flags & http2.ACK:
            self._write(http2.frame(http2.PING, http2.ACK, 0, found.payload))
        elif found.kind == http2.WINDOW_UPDATE:
            self._read_window(found)
        elif found.kind == http2.RST_STREAM:
            (code,) = struct.unpack(">I", found.payload)
            name = _RESET.get(code, INTERNAL)
            self._end(found.stream, name, f"stream reset, HTTP/2 code {code}".encode())
        elif found.kind == http2.GOAWAY:
            self._go_away(int.from_bytes(found.payload[:4]))

    def _read_data(self, found: Frame) -> None:
        self._received += len(found.payload)
        if self._received > _TOP_UP:
            self._write(http2.window_update(0, self._received))
            self._received = 0
        stream = self._streams.get(found.stream)
        if stream is not None:
            stream.body += http2.content(found)
            if found.flags & http2.END_STREAM:
                self._end(found.stream, INTERNAL, b"the answer has no trailers")

    def _read_headers(self, found: Frame) -> None:
        stream = self._streams.get(found.stream)
        if stream is None:
            return
        if found.kind == http2.HEADERS:
            stream.ends = bool(found.flags & http2.END_STREAM)
        stream.headers += http2.content(found) if found.kind == http2.HEADERS else found.payload
        if not found.flags & http2.END_HEADERS:
            return
        block, stream.headers = stream.headers, b""
        # Headers before the answer say nothing that is needed, and there is no table to keep up.
        if stream.ends:
            self._finish(found.stream, stream, self._headers.read(block))

    def _finish(self, number: int, stream: _Stream, trailers: dict[bytes, bytes]) -> None:
        status = trailers.get(b"grpc-status")
        if status != b"0":
            said = unquote_to_bytes(trailers.get(b"grpc-message", b""))
            http_status = trailers.get(b":status", b"").decode()
            name = _STATUS.get(status or b"", "UNKNOWN")
            self._end(number, name, said or f"HTTP status {http_status}".encode())
            return
        body = stream.body
        if len(body) < 5 or body[0] or int.from_bytes(body[1:5]) != len(body) - 5:
            self._end(number, INTERNAL, b"the answer is not one uncompressed message")
            return
        self._end(number, OK, body[5:])

    def _read_settings(self, found: Frame) -> None:
        if found.flags & http2.ACK:
            return
        values = http2.read_settings(found.payload)
        self._most_streams = values.get(http2.MAX_CONCURRENT_STREAMS, self._most_streams)
        window = values.get(http2.INITIAL_WINDOW_SIZE, self._stream_window)
        for stream in self._streams.values():
            stream.window += window - self._stream_window
        self._stream_window = window
        self._write(http2.frame(http2.SETTINGS, http2.ACK, 0))
        if not self.ready.done():
            self.ready.set_result(None)
        self._send_blocked()

    def _read_window(self, found: Frame) -> None:
        size = int.from_bytes(found.payload) & http2.LARGEST_WINDOW
        if found.stream == 0:
            self._window += size
        elif found.stream in self._streams:
            self._streams[found.stream].window += size
        self._send_blocked()

    def _send_blocked(self) -> None:
        """Send what the windows allow of requests that did not fit into them."""
        still = []
        for number in self._blocked:
            stream = self._streams.get(number)
            while stream is not None and stream.unsent:
                size = min(self._window, stream.window, http2.MAX_FRAME, len(stream.unsent))
                if size <= 0:
                    still.append(number)
                    break
                data, stream.unsent = stream.unsent[:size], stream.unsent[size:]
                self._window -= size
                stream.window -= size
                last = 0 if stream.unsent else http2.END_STREAM
                self._write(http2.frame(http2.DATA, last, number, data))
        self._blocked = still

    def _go_away(self, last: int) -> None:
        """The server takes no stream after `last`; those are safe to send elsewhere."""
        self.usable = False
        untaken = [number for number in self._streams if number > last]
        self._freed([self._streams.pop(number).call for number in untaken])
        if not self._streams:
            self._transport.close()

    def _end(self, number: int, code: str, body: bytes) -> None:
        stream = self._streams.pop(number, None)
        if stream is None:
            return
        self._freed([])
        self._answered(stream.call.due, code, body)
        if not self.usable and not self._streams:
            self._transport.close()

    def _lost(self, code: str, why: str) -> None:
        self.usable = False
        self._transport.abort()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(why))
        for number in tuple(self._streams):
            self._end(number, code, why.encode())

    def _write(self, data: bytes) -> None:
        self._out.append(data)

    def _flush(self) -> None:
        if self._reading or not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        if not self._transport.is_closing():
            self._transport.write(data)
