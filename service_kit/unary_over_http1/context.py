"""The context of one unary call, and the HTTP/1.1 responses that end the call."""

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import NoReturn

from grpc import StatusCode, aio

from service_kit.unary_over_http1.wire import (
    ACCEPTED_ENCODINGS,
    Metadata,
    decoded,
    framed,
    status_lines,
    timeout_s,
)

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\n"
_LAST = b"connection: close\r\n"
# A call may have failed because of its compression.
_FAILED_HEAD = b"%bgrpc-accept-encoding: %b\r\n" % (_HEAD, ACCEPTED_ENCODINGS.encode())


class UnaryContext:
    """The part of grpc.aio.ServicerContext that the handlers here use."""

    def __init__(self, headers: Mapping[bytes, bytes], arrived: float) -> None:
        """`headers` by name in lower case; `arrived` is the time at which the call's deadline began
        to run, in seconds of time.monotonic.
        """
        self._headers = headers
        self._arrived = arrived
        self._code = StatusCode.OK
        self._message = ""
        self._trailing: Metadata = ()

    def header(self, name: bytes) -> bytes:
        """Return a header's value; b"" when the caller did not send it."""
        return self._headers.get(name, b"")

    def invocation_metadata(self) -> Metadata:
        """Return the headers whose names begin with `x-mesh-` or `grpc-`."""
        return decoded(self._headers.items())

    def time_remaining(self) -> float | None:
        """Return the seconds until the caller's deadline; None when the caller has none."""
        header = self.header(b"grpc-timeout")
        limit = timeout_s(header) if header else None
        return None if limit is None else max(0.0, self._arrived + limit - time.monotonic())

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Send `metadata` in the trailers, together with the status."""
        self._trailing = tuple(metadata)

    def code(self) -> StatusCode:
        """Return the status: OK unless the call was aborted."""
        return self._code

    async def abort(
        self, code: StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with an error status. Raises aio.AbortError."""
        self._code, self._message, self._trailing = code, details, trailing_metadata
        raise aio.AbortError

    def answered(self, message: bytes, last: bool) -> bytes:
        """Return the response with a message. `last`: the connection closes after it."""
        body, end = framed(message), _end_of_answer(self._trailing)
        return b"%b%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n%b\r\n" % (
            *(_HEAD, _LAST if last else b"", len(body), body, end),
        )

    def failed(self, last: bool) -> bytes:
        """Return the response of an aborted call. `last`: the connection closes after it."""
        end = status_lines(self._code, self._message, self._trailing)
        return b"%b%bcontent-length: 0\r\n%b\r\n" % (_FAILED_HEAD, _LAST if last else b"", end)


# The trailers of an answer name the replica and the version, so the same few come again and again.
_end_of_answer = lru_cache(maxsize=256)(lambda metadata: status_lines(StatusCode.OK, "", metadata))
