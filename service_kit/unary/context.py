"""What a handler may ask of and tell its call, and how the call's end is written."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NoReturn

from grpc import StatusCode, aio

from service_kit.unary.wire import Metadata, decoded, framed, status_lines, timeout_s

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
_LAST_HEAD = _HEAD + b"connection: close\r\n"


class UnaryContext:
    """What a handler may ask of and tell its call: the part of a ServicerContext that they use."""

    def __init__(self, headers: Mapping[bytes, bytes]) -> None:
        """`headers` with names in lower case, as Envoy writes them."""
        self._headers = headers
        self._arrived = time.monotonic()
        self._code = StatusCode.OK
        self._message = ""
        self._trailing: Metadata = ()

    def header(self, name: bytes) -> bytes:
        """A header, b"" when it was not sent."""
        return self._headers.get(name, b"")

    def invocation_metadata(self) -> Metadata:
        """The headers of the call that are ours or gRPC's."""
        return decoded(self._headers.items())

    def time_remaining(self) -> float | None:
        """Seconds until the caller gives up; None: never."""
        header = self.header(b"grpc-timeout")
        limit = timeout_s(header) if header else None
        return None if limit is None else max(0.0, self._arrived + limit - time.monotonic())

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Sent with the status."""
        self._trailing = tuple(metadata)

    def code(self) -> StatusCode:
        """The status so far."""
        return self._code

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with an error."""
        self._code, self._message, self._trailing = code, details, trailing_metadata
        raise aio.AbortError

    def answered(self, message: bytes, last: bool) -> bytes:
        """The response with a message; `last` of its connection."""
        head, body = _LAST_HEAD if last else _HEAD, framed(message)
        end = _end_of_answer(self._trailing)
        return b"%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (
            *(head, len(body), body, end),
        )

    def failed(self, last: bool) -> bytes:
        """The response of an aborted call."""
        end = status_lines(self._code, self._message, self._trailing)
        return b"%bcontent-length: 0\r\n%b\r\n" % (_LAST_HEAD if last else _HEAD, end)


# The trailers of an answer tell who gave it: the same words each time.
_end_of_answer = lru_cache(maxsize=256)(lambda metadata: status_lines(StatusCode.OK, "", metadata))
