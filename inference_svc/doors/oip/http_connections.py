"""aiohttp's server with limits of its connections, and with the protocol's form of errors."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from inference_svc.doors.oip.http_answers import error_answer
from service_kit.identities.http_tls import admits
from service_kit.limits import MAX_HEADER_BYTES, MAX_HEADER_BYTES_BEHIND_ENVOY, MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4096
# Time for the first request to come, seconds. Envoy opens a connection when it has a request.
FIRST_REQUEST_S = 10.0
MAX_HEAD_BYTES = MAX_HEADER_BYTES_BEHIND_ENVOY
# What aiohttp says of a request with more than 128 headers.
_TOO_MANY_HEADERS = "Too many headers received"
HEAD_TOO_LARGE = (
    f"the path and the headers are too large; at most {MAX_HEADER_BYTES:,} bytes are taken"
)


class Connection(web.RequestHandler):
    """One connection. What aiohttp itself refuses has the protocol's form of errors."""

    _first_request: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        super().connection_made(transport)
        server = self._manager
        if not admits(transport) or (
            server is not None and len(server.connections) > MAX_CONNECTIONS
        ):
            self.force_close()
        else:
            loop = asyncio.get_running_loop()
            self._first_request = loop.call_later(FIRST_REQUEST_S, self._close_unused)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        if self._first_request is not None:
            self._first_request.cancel()
        super().connection_lost(exc)

    def _close_unused(self) -> None:
        if self._request_count == 0:
            self.force_close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what is no HTTP; aiohttp's own answer would be text."""
        why = (message or str(exc)).strip().partition("\n")[0].rstrip(":")
        log.info("a request is no HTTP", extra={"peer": request.remote, "why": why})
        if isinstance(exc, LineTooLong) or why == _TOO_MANY_HEADERS:
            answer = error_answer(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, HEAD_TOO_LARGE)
        else:
            answer = error_answer(HTTPStatus(status), f"the request is not valid HTTP: {why[:200]}")
        answer.force_close()
        return answer

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log at a level that fits the faults of a peer; those of handlers are logged by them."""
        log.info(*args, **kw)


class ConnectionServer(web.Server):
    """Makes a Connection of every TCP connection."""

    def __call__(self) -> web.RequestHandler:
        """Return the protocol of a new connection."""
        return Connection(self, loop=asyncio.get_running_loop(), **self._kwargs)


def connection_server(handler: Callable[[web.BaseRequest], Awaitable[Any]]) -> ConnectionServer:
    """Return a server whose requests `handler` answers.

    When a client hangs up, its handler is cancelled.
    """
    return ConnectionServer(
        handler,
        request_factory=_request,
        handler_cancellation=True,
        access_log=None,
        max_line_size=MAX_HEAD_BYTES,
        max_field_size=MAX_HEAD_BYTES,
        # The door reads Content-Encoding itself, since it must refuse what it does not know.
        auto_decompress=False,
    )


def _request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    loop = task.get_loop()
    return web.BaseRequest(
        message, payload, protocol, writer, task, loop, client_max_size=MAX_MESSAGE_BYTES
    )


def head_bytes(request: web.BaseRequest) -> int:
    """Size of a request's path and headers."""
    headers = sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
    return len(request.raw_path) + headers
