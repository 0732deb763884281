"""Reads HTTP/1.1 requests from the bytes of one connection, within limits."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import httptools

from service_kit.limits import MAX_HEADER_BYTES_BEHIND_ENVOY, MAX_MESSAGE_BYTES
from service_kit.unary_over_http1.wire import HEAD_BYTES

MAX_HEAD_BYTES = MAX_HEADER_BYTES_BEHIND_ENVOY
MAX_BODY_BYTES = MAX_MESSAGE_BYTES + HEAD_BYTES
# Handlers see the headers whose names begin like this. Envoy sends a dozen others, which nobody
# reads.
_VISIBLE = (b"x-mesh-", b"grpc-")
_FIRST_LETTERS = b"xXgG"
# What a header takes beside its name and value: a colon, a space and the end of the line.
_LINE_EXTRA_BYTES = 4
_REFUSAL = b"HTTP/1.1 %b\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Request(NamedTuple):
    """One whole request."""

    verb: bytes
    path: bytes
    headers: Mapping[bytes, bytes]
    """Headers that handlers see, by name in lower case; none when the head was too large."""

    body: bytes
    """The body, or its first MAX_BODY_BYTES at most."""

    body_bytes: int
    """Size of the whole body."""

    head_bytes: int
    """Size of the path and of all headers; 0 when that cannot be too large."""

    arrived: float
    """When the first byte came, in seconds of time.monotonic."""


class Refused(Exception):
    """The connection cannot go on; `response` is the last thing to be sent on it."""

    def __init__(self, status: bytes) -> None:
        """`status` is an HTTP status with its words."""
        self.response = _REFUSAL % status


class RequestReader:
    """Takes the bytes of a connection and calls `take` with every request."""

    def __init__(self, take: Callable[[Request], None]) -> None:
        self._take = take
        self._parser = httptools.HttpRequestParser(self)
        self.arrived: float | None = time.monotonic()
        """When the request that is not whole yet began to come; None: nothing of a next request
        has come. For the first request: when the connection was opened."""

        self.in_head = True
        """Whether that request's headers are still coming."""

        self._held_bytes = 0
        self._start()

    def feed(self, data: bytes) -> None:
        """Read on. Raises Refused when that is not possible, and what `take` raises."""
        # Until a header or trailer has come to its end, the parser holds it and says nothing of it.
        self._held_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            raise error.__context__ or error from None
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise Refused(b"400 Bad Request") from error
        if self._held_bytes > MAX_HEAD_BYTES:
            raise Refused(b"431 Request Header Fields Too Large")

    def _start(self) -> None:
        self._path = b""
        self._lines: list[tuple[bytes, bytes]] = []
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._body = bytearray()
        self._body_bytes = 0

    # Called by the parser.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self.arrived = time.monotonic()
        self.in_head = True

    def on_url(self, url: bytes) -> None:
        """Append to the path, which may come in several parts."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; the parser also calls this for trailers."""
        self._lines.append((name, value))

    def on_headers_complete(self) -> None:
        """Pick the headers that handlers see, and go on to the body.

        Trailers come later and are dropped. gRPC's requests have none; a client's own pass Envoy,
        and with them names that Envoy removes from headers.
        """
        if self._held_bytes > MAX_HEAD_BYTES:  # else the head cannot be too large
            lines = sum(len(name) + len(value) for name, value in self._lines)
            self._head_bytes = len(self._path) + lines + _LINE_EXTRA_BYTES * len(self._lines)
        if self._head_bytes <= MAX_HEAD_BYTES:
            for name, value in self._lines:
                if name[0] in _FIRST_LETTERS and (lower := name.lower()).startswith(_VISIBLE):
                    self._headers[lower] = value
        self.in_head = False
        self._held_bytes = 0

    def on_body(self, part: bytes) -> None:
        """Keep a part of the body; once the body is too large, only count its bytes."""
        self._held_bytes = 0
        self._body_bytes += len(part)
        if self._body_bytes <= MAX_BODY_BYTES:
            self._body += part

    def on_message_complete(self) -> None:
        """Hand over the request, of which every byte has come now."""
        assert self.arrived is not None
        request = Request(
            self._parser.get_method(),
            self._path,
            self._headers,
            bytes(self._body),
            self._body_bytes,
            self._head_bytes,
            self.arrived,
        )
        self.arrived = None
        self._held_bytes = 0
        self._start()
        self._take(request)
