"""The replica's HTTP port: unary calls as Envoy sends them, and the Open Inference Protocol.

One port for both, since a connection of Envoy's carries one of them only.
"""

import asyncio
import logging
from typing import cast

from inference_svc.open_inference_http import OpenInferenceHttp
from service_kit.unary_server import PREFIXES, UnaryServer

log = logging.getLogger(__name__)


class HttpListener:
    """Started once, closed once; closing one that never started is harmless."""

    def __init__(
        self, unary: UnaryServer, inference: OpenInferenceHttp, host: str, port: int, grace_s: float
    ) -> None:
        """`grace_s` is the time that calls get to finish when it closes."""
        self._unary = unary
        self._inference = inference
        self._host = host
        self._port = port
        self._grace_s = grace_s
        self._server: asyncio.Server | None = None
        self._silent: set[_Connection] = set()

    async def start(self) -> None:
        """Listen. Raises OSError when the port is taken."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: _Connection(self._unary, self._inference, self._silent), self._host, self._port
        )
        log.info("listening", extra={"address": f"{self._host}:{self._port}", "protocol": "http"})

    async def close(self) -> None:
        """Take no more connections, let calls finish, and close."""
        server, self._server = self._server, None
        if server is None:
            return
        server.close()
        for connection in tuple(self._silent):
            connection.close()
        await asyncio.gather(self._unary.close(self._grace_s), self._inference.close(self._grace_s))


class _Connection(asyncio.Protocol):
    """A connection until its first bytes tell whose it is."""

    def __init__(
        self, unary: UnaryServer, inference: OpenInferenceHttp, silent: set["_Connection"]
    ) -> None:
        self._unary = unary
        self._inference = inference
        self._silent = silent
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._silent.add(self)

    def data_received(self, data: bytes) -> None:
        self._silent.discard(self)
        transport = self._transport
        assert transport is not None
        chosen = self._unary if data.startswith(PREFIXES) else self._inference
        protocol = chosen.connection()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    def connection_lost(self, error: Exception | None) -> None:
        self._silent.discard(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
