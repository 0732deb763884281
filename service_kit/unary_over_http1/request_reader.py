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
_VISIBLE_HEADERS = (b"x-mesh-", b"grpc-")
# What a header takes beside its name and value: a colon, a space and the end of the line.
_HEADER_EXTRA_BYTES = 4
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
    """Size of the path and of all headers."""

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
        self._head_bytes += len(url)
        if self._head_bytes <= MAX_HEAD_BYTES:
            self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header that handlers see.

        The parser calls this for trailers as well, which gRPC's requests do not have: a client's
        trailers pass Envoy, and with them names that Envoy removes from headers.
        """
        if not self.in_head:
            return
        self._head_bytes += len(name) + len(value) + _HEADER_EXTRA_BYTES
        name = name.lower()
        if name.startswith(_VISIBLE_HEADERS) and self._head_bytes <= MAX_HEAD_BYTES:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        """Go on to the body."""
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
