"""Reads HTTP/1.1 responses from the bytes of a connection."""

from dataclasses import dataclass

_NO_BODY = (204, 304)


class BadResponse(Exception):
    """What arrived is no HTTP/1.1 response."""


@dataclass(frozen=True)
class Response:
    """A whole response; `keep_alive`: the connection can carry another request."""

    status: int
    body: bytes
    keep_alive: bool


class ResponseReader:
    """The responses of one connection, one request at a time (no pipelining)."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Response | None:
        """The response, once its last byte has come. Raises BadResponse."""
        self._buffer = self._buffer + data if self._buffer else data
        while True:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return None
            status = _status(head)
            if status >= 200:
                break
            # 1xx: the real response comes after it.
            self._buffer = rest
        return self._body(status, head.lower(), rest)

    def end(self) -> Response | None:
        """The response that the end of the connection completes, if there is one."""
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        self._buffer = b""
        if not end or _header(head.lower(), b"content-length") is not None:
            return None
        if _header(head.lower(), b"transfer-encoding") is not None:
            return None
        return Response(_status(head), rest, keep_alive=False)

    def _body(self, status: int, head: bytes, rest: bytes) -> Response | None:
        body: bytes | None
        if status in _NO_BODY:
            body, size = b"", 0
        elif (length := _header(head, b"content-length")) is not None:
            size = _integer(length, 10)
            body = rest[:size] if len(rest) >= size else None
        elif (_header(head, b"transfer-encoding") or b"").endswith(b"chunked"):
            body, size = _chunks(rest)
        else:
            return None
        if body is None:
            return None
        if len(rest) > size:
            raise BadResponse("bytes after the end of the response")
        self._buffer = b""
        return Response(status, body, _keep_alive(head))


def _status(head: bytes) -> int:
    if not head.startswith(b"HTTP/1.") or len(head) < 12:
        raise BadResponse(f"no status line: {head[:40]!r}")
    return _integer(head[9:12], 10)


def _header(head: bytes, name: bytes) -> bytes | None:
    begin = head.find(b"\r\n" + name + b":")
    if begin < 0:
        return None
    begin += len(name) + 3
    end = head.find(b"\r\n", begin)
    return (head[begin:] if end < 0 else head[begin:end]).strip()


def _keep_alive(head: bytes) -> bool:
    connection = _header(head, b"connection") or b""
    return connection != b"close" if head[7:8] == b"1" else connection == b"keep-alive"


def _chunks(rest: bytes) -> tuple[bytes | None, int]:
    """The body of a chunked response and its size on the wire; None while it is not whole."""
    parts: list[bytes] = []
    at = 0
    while True:
        end = rest.find(b"\r\n", at)
        if end < 0:
            return None, 0
        size = _integer(rest[at:end].partition(b";")[0], 16)
        at = end + 2
        if size == 0:
            return _after_trailers(b"".join(parts), rest, at)
        if len(rest) < at + size + 2:
            return None, 0
        parts.append(rest[at : at + size])
        at += size + 2


def _after_trailers(body: bytes, rest: bytes, at: int) -> tuple[bytes | None, int]:
    if rest.startswith(b"\r\n", at):
        return body, at + 2
    end = rest.find(b"\r\n\r\n", at)
    return (None, 0) if end < 0 else (body, end + 4)


def _integer(digits: bytes, base: int) -> int:
    try:
        return int(digits, base)
    except ValueError:
        raise BadResponse(f"{digits[:40]!r} is no number") from None
