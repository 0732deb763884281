"""One HTTP/2 connection that carries unary gRPC calls."""

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import grpc

from mesh_cli.load.wire import http2
from mesh_cli.load.wire.connection_pool import OK, OnAnswer
from mesh_cli.load.wire.http2 import BadFrame, Frame

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.name
INTERNAL = grpc.StatusCode.INTERNAL.name
DEADLINE_EXCEEDED = grpc.StatusCode.DEADLINE_EXCEEDED.name

# The status that gRPC gives to each HTTP/2 error code; all other codes are INTERNAL.
_RESET = {0x7: UNAVAILABLE, 0x8: "CANCELLED", 0xB: "RESOURCE_EXHAUSTED", 0xC: "PERMISSION_DENIED"}
_STATUS = {str(code.value[0]).encode(): code.name for code in grpc.StatusCode}
_PREFIX = struct.Struct(">BI")
# Bytes received after which the connection's window is enlarged again. The window of a stream is as
# large as HTTP/2 allows and is never enlarged.
_TOP_UP = http2.LARGEST_WINDOW // 2


class Call(NamedTuple):
    """A call to make: its serialised message, when it was due, and when it is out of time."""

    request: bytes
    due: float
    deadline: float


@dataclass(slots=True)
class _Stream:
    call: Call
    window: int
    body: bytes = b""
    headers: bytes = b""
    """The part of a header block that has been read."""
    ends: bool = False
    """Whether that header block ends the stream."""
    unsent: bytes = b""


class GrpcConnection(asyncio.Protocol):
    """Makes calls and reports how each was answered."""

    def __init__(
        self, head: bytes, answered: OnAnswer, freed: Callable[[list[Call]], None]
    ) -> None:
        """`head` is the header block of every call.

        `freed` is called when there is room for another call, with the calls that the server did
        not take because it is going away.
        """
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.usable = True
        """Whether it takes more calls, now or when one of its calls has ended."""
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
        """Whether some of its calls are not answered yet."""
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
        """Send the client's settings."""
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
        """Read the frames that have come."""
        # While this is True, new calls are only collected; then one system call sends them all.
        self._reading = True
        try:
            for frame in self._frames.feed(data):
                self._read(frame)
        except (BadFrame, IndexError, struct.error) as error:
            self._lost(INTERNAL, f"no HTTP/2: {error}")
        finally:
            self._reading = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the calls that were not answered."""
        self._lost(UNAVAILABLE, f"connection closed: {exc or 'by the server'}")

    def _read(self, frame: Frame) -> None:
        if frame.kind == http2.DATA:
            self._read_data(frame)
        elif frame.kind in (http2.HEADERS, http2.CONTINUATION):
            self._read_headers(frame)
        elif frame.kind == http2.SETTINGS:
            self._read_settings(frame)
        elif frame.kind == http2.PING and not frame.flags & http2.ACK:
            self._write(http2.frame(http2.PING, http2.ACK, 0, frame.payload))
        elif frame.kind == http2.WINDOW_UPDATE:
            self._read_window(frame)
        elif frame.kind == http2.RST_STREAM:
            (code,) = struct.unpack(">I", frame.payload)
            name = _RESET.get(code, INTERNAL)
            self._end(frame.stream, name, f"stream reset, HTTP/2 code {code}".encode())
        elif frame.kind == http2.GOAWAY:
            self._go_away(int.from_bytes(frame.payload[:4]))

    def _read_data(self, frame: Frame) -> None:
        self._received += len(frame.payload)
        if self._received > _TOP_UP:
            self._write(http2.window_update(0, self._received))
            self._received = 0
        stream = self._streams.get(frame.stream)
        if stream is not None:
            stream.body += http2.content(frame)
            if frame.flags & http2.END_STREAM:
                self._end(frame.stream, INTERNAL, b"the answer has no trailers")

    def _read_headers(self, frame: Frame) -> None:
        stream = self._streams.get(frame.stream)
        if stream is None:
            return
        if frame.kind == http2.HEADERS:
            stream.ends = bool(frame.flags & http2.END_STREAM)
        stream.headers += http2.content(frame) if frame.kind == http2.HEADERS else frame.payload
        if not frame.flags & http2.END_HEADERS:
            return
        block, stream.headers = stream.headers, b""
        # Headers before the answer hold nothing that is needed here, and as the server may keep no
        # table, they need not be decoded for its sake.
        if stream.ends:
            self._finish(frame.stream, stream, self._headers.read(block))

    def _finish(self, number: int, stream: _Stream, trailers: dict[bytes, bytes]) -> None:
        status = trailers.get(b"grpc-status")
        if status != b"0":
            message = unquote_to_bytes(trailers.get(b"grpc-message", b""))
            http_status = trailers.get(b":status", b"").decode()
            name = _STATUS.get(status or b"", "UNKNOWN")
            self._end(number, name, message or f"HTTP status {http_status}".encode())
            return
        body = stream.body
        if len(body) < 5 or body[0] or int.from_bytes(body[1:5]) != len(body) - 5:
            self._end(number, INTERNAL, b"the answer is not one uncompressed message")
            return
        self._end(number, OK, body[5:])

    def _read_settings(self, frame: Frame) -> None:
        if frame.flags & http2.ACK:
            return
        values = http2.read_settings(frame.payload)
        self._most_streams = values.get(http2.MAX_CONCURRENT_STREAMS, self._most_streams)
        window = values.get(http2.INITIAL_WINDOW_SIZE, self._stream_window)
        for stream in self._streams.values():
            stream.window += window - self._stream_window
        self._stream_window = window
        self._write(http2.frame(http2.SETTINGS, http2.ACK, 0))
        if not self.ready.done():
            self.ready.set_result(None)
        self._send_blocked()

    def _read_window(self, frame: Frame) -> None:
        size = int.from_bytes(frame.payload) & http2.LARGEST_WINDOW
        if frame.stream == 0:
            self._window += size
        elif frame.stream in self._streams:
            self._streams[frame.stream].window += size
        self._send_blocked()

    def _send_blocked(self) -> None:
        """Send as much of the waiting requests as the windows allow."""
        still_blocked = []
        for number in self._blocked:
            stream = self._streams.get(number)
            while stream is not None and stream.unsent:
                size = min(self._window, stream.window, http2.MAX_FRAME, len(stream.unsent))
                if size <= 0:
                    still_blocked.append(number)
                    break
                data, stream.unsent = stream.unsent[:size], stream.unsent[size:]
                self._window -= size
                stream.window -= size
                last = 0 if stream.unsent else http2.END_STREAM
                self._write(http2.frame(http2.DATA, last, number, data))
        self._blocked = still_blocked

    def _go_away(self, last: int) -> None:
        """Give back the calls after stream `last`, which the server will not take."""
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

    def _lost(self, code: str, reason: str) -> None:
        self.usable = False
        self._transport.abort()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(reason))
        for number in tuple(self._streams):
            self._end(number, code, reason.encode())

    def _write(self, data: bytes) -> None:
        self._out.append(data)

    def _flush(self) -> None:
        if self._reading or not self._out:
            return
        data = b"".join(self._out)
        self._out.clear()
        if not self._transport.is_closing():
            self._transport.write(data)
