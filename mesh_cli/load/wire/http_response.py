"""Reads HTTP/1.1 responses from the bytes of a connection."""

from typing import NamedTuple

import httptools

_LENGTH_HEADERS = (b"content-length", b"transfer-encoding")


class BadResponse(Exception):
    """The bytes are not exactly one HTTP/1.1 response."""


class Response(NamedTuple):
    """A whole response; `keep_alive`: the connection can carry another request."""

    status: int
    body: bytes
    keep_alive: bool


class ResponseReader:
    """Reads the responses on one connection, which carries one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._unfinished: list[bytes] = []
        self._body: list[bytes] = []
        self._response: Response | None = None
        self._has_surplus = False

    def feed(self, data: bytes) -> Response | None:
        """Return the response once its last byte is read, else None.

        Raises BadResponse for bytes that are no response, and for bytes after the response's end:
        kept, they would become the beginning of the next one. The reader is of no more use then.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            raise BadResponse("the server switches to another protocol") from None
        except httptools.HttpParserError as error:
            raise BadResponse(str(error)) from None
        if self._has_surplus:
            raise BadResponse("bytes after the end of the response")
        response, self._response = self._response, None
        if response is None:
            self._unfinished.append(data)
        else:
            self._unfinished.clear()
        return response

    def end(self) -> Response | None:
        """Return the response that the end of the connection completes, if there is one."""
        head = _Head()
        httptools.HttpResponseParser(head).feed_data(b"".join(self._unfinished))
        self._unfinished.clear()
        if not head.complete or head.has_length:
            return None
        return Response(self._parser.get_status_code(), b"".join(self._body), keep_alive=False)

    # Called by the parser.

    def on_message_begin(self) -> None:
        """A response begins; it may be a second one in the bytes that held a whole one."""
        self._has_surplus = self._response is not None

    def on_body(self, part: bytes) -> None:
        """A part of the body has been read."""
        self._body.append(part)

    def on_message_complete(self) -> None:
        """A response is whole; after a status of 1xx the one that answers the request follows."""
        status = self._parser.get_status_code()
        if status >= 200:
            keep_alive = self._parser.should_keep_alive()
            self._response = Response(status, b"".join(self._body), keep_alive)
        self._body.clear()


class _Head:
    """The head of a response that is not whole.

    Only this one listens to headers: each would cost the reader above a call in every response.
    """

    complete = False
    has_length = False

    def on_message_begin(self) -> None:
        self.complete = self.has_length = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.has_length |= name.lower() in _LENGTH_HEADERS

    def on_headers_complete(self) -> None:
        self.complete = True

    def on_message_complete(self) -> None:
        self.complete = False
