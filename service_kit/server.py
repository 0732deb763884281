"""The life of a gRPC service: startup → serve → drain → stop."""

import asyncio
import ipaddress
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from prometheus_client import start_http_server

from service_kit.callers.audit_entry import Entry
from service_kit.callers.shares import Shares
from service_kit.decompression import GRPC_AS_IT_CAME
from service_kit.errors import NotFound
from service_kit.identities.admission import Admission
from service_kit.identities.grpc_tls import server_credentials
from service_kit.identities.identity import Identity
from service_kit.interceptor import Context, ServiceInterceptor
from service_kit.limits import MAX_HEADER_BYTES_BEHIND_ENVOY
from service_kit.logs import configure_logging
from service_kit.public_reflection import add_reflection
from service_kit.settings import ServiceSettings

log = logging.getLogger(__name__)

# The interceptor checks the contract's limit, where it can answer with a helpful error. This limit
# only bounds memory.
_TRANSPORT_LIMIT_BYTES = 64 * 1024 * 1024

SERVER_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", _TRANSPORT_LIMIT_BYTES),
    ("grpc.max_send_message_length", _TRANSPORT_LIMIT_BYTES),
    ("grpc.so_reuseport", 0),
    GRPC_AS_IT_CAME,
    # Milliseconds for a peer to begin to speak HTTP/2.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Between these two, 8 and 16 KiB by default, grpcio refuses calls at random. Equal limits leave
    # no such range.
    ("grpc.max_metadata_size", MAX_HEADER_BYTES_BEHIND_ENVOY),
    ("grpc.absolute_max_metadata_size", MAX_HEADER_BYTES_BEHIND_ENVOY),
    # Without these two, grpcio would answer Envoy's keepalive pings with GOAWAY.
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Limits of the calls that have arrived and that Python has not taken up. Above the first limit
    # gRPC drops some calls, whose callers see CANCELLED without a reason; its default is 1,000.
    ("grpc.server.max_pending_requests", 16_384),
    ("grpc.server.max_pending_requests_hard_limit", 32_768),
]

# A connection over TLS takes new calls for this time, milliseconds: a peer then has to show the
# certificate that it has by then. Calls and streams that have begun are not cut off.
CONNECTION_AGE_MS = 3_600_000
# Streams that say something only when health changes: of one caller, and of all.
WATCHES_OF_A_CALLER, WATCHES = 64, 1_024

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health(health.aio.HealthServicer):
    """Tells the health of the services that its server has."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names
        self._watches = Shares("watches of health", WATCHES_OF_A_CALLER, WATCHES)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> None:
        """See grpc.health.v1. Raises Exhausted when too many watch."""
        with self._watches.held(context):
            await super().Watch(request, context)

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Any:
        """See grpc.health.v1. Raises NotFound, which names the services."""
        if request.service not in ("", *self._names):
            here = ", ".join(self._names)
            raise NotFound(f"there is no service {request.service[:100]!r} here; there are {here}")
        return await super().Check(request, context)

    async def List(self, request: Any, context: Context) -> Any:
        """See grpc.health.v1."""
        statuses = {
            name: await super(Health, self).Check(
                health_pb2.HealthCheckRequest(service=name), context
            )
            for name in ("", *self._names)
        }
        # The type stubs lack this method and its messages.
        messages: Any = health_pb2
        return messages.HealthListResponse(statuses=statuses)


class Service(Protocol):
    """The methods that a service has to have, so that GrpcServer can run it."""

    names: Sequence[str]
    """Full names of its gRPC services, `mesh.v1.…`; health is reported for each."""

    def register(self, server: aio.Server) -> None:
        """Add the servicers to `server`."""

    async def startup(self) -> None:
        """Get ready. Calls may arrive before this ends; until then health says NOT_SERVING."""

    async def shutdown(self) -> None:
        """Release everything. The server takes no more calls at this point."""


@runtime_checkable
class Drains(Protocol):
    """A service with streams that do not end by themselves."""

    async def drain(self) -> None:
        """End the streams. Balancers know by now that this server stops; its grace time begins."""


@runtime_checkable
class Fails(Protocol):
    """A service that may find out by itself that it cannot serve any more."""

    stop_serving: Callable[[], Awaitable[None]]
    """Set by GrpcServer: has health say NOT_SERVING from now on."""


class Audit(Protocol):
    """Where changes are noted; see service_kit.audit.log.AuditLog."""

    def record(self, entry: Entry) -> None:
        """Take an entry, at once."""

    def start(self) -> None:
        """Begin to write what is taken."""

    async def close(self) -> None:
        """Write what is left, for a bounded time."""


@runtime_checkable
class Audits(Protocol):
    """A service whose changes are noted. GrpcServer starts and closes its audit."""

    audit: Audit


class GrpcServer:
    """A running service with health and reflection, as an async context manager.

    Tests use it as it is; `run` adds signals, logging and metrics.
    """

    def __init__(
        self,
        service: Service,
        settings: ServiceSettings,
        reflected: Sequence[str] | None = None,
    ) -> None:
        self.service = service
        self.settings = settings
        self.health = Health(service.names)
        self.port = 0
        self._failed = False
        if isinstance(service, Fails):
            service.stop_serving = self._stop_serving
        self._reflected = service.names if reflected is None else reflected
        self._audit = service.audit if isinstance(service, Audits) else None
        record = None if self._audit is None else self._audit.record
        self._identity = Identity.of(settings.identity_folder)
        admission = Admission(self._identity.part) if self._identity else None
        age = [("grpc.max_connection_age_ms", CONNECTION_AGE_MS)] if self._identity else []
        self._server = aio.server(
            interceptors=[ServiceInterceptor(record, admission)], options=[*SERVER_OPTIONS, *age]
        )

    @property
    def address(self) -> str:
        """host:port that the server listens on."""
        return f"{self.settings.host}:{self.port}"

    async def __aenter__(self) -> "GrpcServer":
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        add_reflection(self._server, self._reflected)
        self.service.register(self._server)
        await self._set_health(NOT_SERVING)
        self.port = self._listen(f"{self.settings.host}:{self.settings.port}")
        if self._audit is not None:
            self._audit.start()
        await self._server.start()
        log.info("listening", extra={"address": self.address})
        try:
            await self.service.startup()
        except BaseException:
            await self._server.stop(0)
            await self._close_audit()
            raise
        if not self._failed:
            await self._set_health(SERVING)
        log.info("serving", extra={"address": self.address})
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drain()
        await self._server.stop(self.settings.grace_seconds)
        # What the calls have done is noted before the service forgets how.
        await self._close_audit()
        await self.service.shutdown()
        log.info("stopped")

    async def drain(self) -> None:
        """Say NOT_SERVING and give balancers time to see it; calls are still answered meanwhile."""
        await self._set_health(NOT_SERVING)
        await asyncio.sleep(self.settings.drain_seconds)
        if isinstance(self.service, Drains):
            await self.service.drain()

    async def _close_audit(self) -> None:
        if self._audit is not None:
            await self._audit.close()

    def _listen(self, address: str) -> int:
        if self._identity is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, server_credentials(self._identity))

    async def _stop_serving(self) -> None:
        self._failed = True
        await self._set_health(NOT_SERVING)

    async def _set_health(self, status: int) -> None:
        for name in ("", *self.service.names):
            await self.health.set(name, status)


def check_who_gets_in(settings: ServiceSettings) -> None:
    """Raise ValueError when strangers would reach the service, or its identity is no good."""
    if Identity.of(settings.identity_folder) or settings.plain_text or _loopback(settings.host):
        return
    raise ValueError(
        f"it would listen on {settings.host}, where other machines reach it, and nothing would "
        "prove who they are; set MESH_IDENTITY_FOLDER to the folder of its certificate, or "
        "MESH_PLAIN_TEXT=true where the network lets nobody else in"
    )


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def run(
    name: str,
    settings: ServiceSettings,
    make_service: Callable[[], Service],
    reflected: Sequence[str] | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run a service until SIGTERM or SIGINT; a process's `main` calls this."""
    configure_logging(name, settings.log_level)
    try:
        check_who_gets_in(settings)
    except ValueError as error:
        sys.exit(f"cannot start: {error}")
    if settings.metrics_port:
        start_http_server(settings.metrics_port, settings.host)
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(_run(settings, make_service, reflected))


async def _run(
    settings: ServiceSettings,
    make_service: Callable[[], Service],
    reflected: Sequence[str] | None,
) -> None:
    task = asyncio.current_task()
    assert task is not None
    stop = asyncio.Event()
    started = False

    def on_signal() -> None:
        stop.set()
        if not started:
            # There is nothing to drain yet, so give up the startup.
            task.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    with suppress(asyncio.CancelledError):
        async with GrpcServer(make_service(), settings, reflected):
            started = True
            await stop.wait()
