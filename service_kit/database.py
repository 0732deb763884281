"""PostgreSQL for async services: psycopg2 in threads, one connection a thread, reconnecting."""

import asyncio
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
from psycopg2.errors import LockNotAvailable, QueryCanceled
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor
from psycopg2.extensions import parse_dsn
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_fixed

from service_kit.database_errors import (
    DEFAULT_TIMEOUTS,
    RETRY_AFTER_TIMEOUT_S,
    BrokenOff,
    Timeouts,
    is_lost_connection,
    is_outage,
    unavailable,
)
from service_kit.errors import Unavailable
from service_kit.schema_versions import TABLE, Component, as_shared_owner

__all__ = [
    "DEFAULT_TIMEOUTS",
    "RETRY_AFTER_TIMEOUT_S",
    "BrokenOff",
    "Database",
    "Timeouts",
    "apply_schema",
    "connect",
    "unavailable",
    "until_available",
]

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
# A schema may rewrite a table or build an index.
SCHEMA_STATEMENT_TIMEOUT_MS = 600_000
# A half-open connection is noticed after about 20 s instead of hours.
_KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}


def connect(url: str, application_name: str, timeouts: Timeouts = DEFAULT_TIMEOUTS) -> Connection:
    """Open a connection that notices when its other end is gone, and limits every statement.

    A statement beyond its limit raises psycopg2.errors.QueryCanceled or LockNotAvailable, both of
    them psycopg2.OperationalError. Raises Unavailable when the server is away.
    """
    limits = f"-c statement_timeout={timeouts.statement_ms} -c lock_timeout={timeouts.lock_ms}"
    try:
        options = parse_dsn(url).get("options") or os.environ.get("PGOPTIONS", "")
        connection: Connection = psycopg2.connect(
            url,
            application_name=application_name,
            connect_timeout=CONNECT_TIMEOUT_S,
            # The last setting wins, so neither the URL nor PGOPTIONS can lift the limits.
            options=f"{options} {limits}".strip(),
            **_KEEPALIVE,
        )
        return connection
    except psycopg2.OperationalError as error:
        raise unavailable(error) from error


class Database:
    """Runs functions over a cursor, each in one transaction, in `threads` threads at most.

    With `cancels`, the statement of a caller that was cancelled is cancelled too, and its
    transaction rolled back. Without it, the transaction ends as if somebody still waited.
    """

    def __init__(
        self, url: str, application_name: str, threads: int = 4, cancels: bool = False
    ) -> None:
        self.url = url
        self.application_name = application_name
        self._cancels = cancels
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="postgres")
        self._open: set[Connection] = set()

    async def run(
        self,
        work: Callable[[Cursor], T],
        action: str = "the statement",
        timeouts: Timeouts = DEFAULT_TIMEOUTS,
    ) -> T:
        """Run `work(cursor)` in a transaction of its own and return its result.

        `action` names the work in errors, for example "counting the rows of reviews". `timeouts`
        hold for this transaction; give longer ones for long work.

        Raises Unavailable when PostgreSQL is away or in trouble, and BrokenOff, an Unavailable,
        when a statement or its wait for a lock took too long; then nothing was committed. When the
        connection broke during COMMIT, the caller cannot know whether it was, so `work` has to be
        idempotent. Other errors of a statement are raised as psycopg2.Error.
        """
        loop = asyncio.get_running_loop()
        call = _Call()
        try:
            return await loop.run_in_executor(self._pool, self._run, call, work, action, timeouts)
        except asyncio.CancelledError:
            if self._cancels:
                loop.run_in_executor(None, call.leave)
            raise

    def _run(
        self, call: "_Call", work: Callable[[Cursor], T], action: str, timeouts: Timeouts
    ) -> T:
        reused = getattr(self._local, "connection", None) is not None
        try:
            try:
                return self._attempt(call, work, timeouts)
            except psycopg2.Error as error:
                if not reused or not is_lost_connection(error):
                    raise
                # The connection may have died while it was idle: try once more on a new one.
                return self._attempt(call, work, timeouts)
        except psycopg2.Error as error:
            if is_outage(error):
                raise unavailable(error, action, timeouts) from error
            raise

    def _attempt(self, call: "_Call", work: Callable[[Cursor], T], timeouts: Timeouts) -> T:
        connection = self._connection()
        try:
            with call.on(connection), connection, connection.cursor() as cursor:
                if timeouts != DEFAULT_TIMEOUTS:
                    cursor.execute(
                        "SET LOCAL statement_timeout = %s; SET LOCAL lock_timeout = %s",
                        (timeouts.statement_ms, timeouts.lock_ms),
                    )
                return work(cursor)
        except (QueryCanceled, LockNotAvailable):
            raise  # the transaction was rolled back, and the connection is sound
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._drop(connection)
            raise
        finally:
            if call.left:
                # A late cancellation must not hit the next call's statement.
                self._drop(connection)

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect(self.url, self.application_name)
            self._local.connection = connection
            self._open.add(connection)
        return connection

    def _drop(self, connection: Connection) -> None:
        self._local.connection = None
        self._open.discard(connection)
        connection.close()

    async def close(self) -> None:
        """Close every connection; running work ends first."""
        await asyncio.to_thread(self._pool.shutdown)
        for connection in tuple(self._open):
            connection.close()


class _Call:
    """One call of Database.run: knows the connection that works for it, to cancel it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self.left = False
        """Set when nobody waits for the result any more."""

    @contextmanager
    def on(self, connection: Connection) -> Iterator[None]:
        """Work on `connection`. Raises QueryCanceled when nobody waits any more."""
        with self._lock:
            if self.left:
                raise QueryCanceled("nobody waits for the result any more")
            self._connection = connection
        try:
            yield
        finally:
            with self._lock:
                self._connection = None

    def leave(self) -> None:
        """Cancel the statement that runs for this call, if one does."""
        with self._lock:
            self.left = True
            if self._connection is not None:
                # When PostgreSQL cannot be reached, the statement ends with the connection.
                with suppress(psycopg2.Error):
                    self._connection.cancel()


async def apply_schema(database: Database, name: str, *scripts: Path) -> None:
    """Bring the tables of these scripts to this release's version, one service at a time.

    All of it is one transaction. While PostgreSQL is away, this waits for it. Raises SchemaTooNew
    when a later release has changed the tables so that this one cannot work with them.
    """
    components = [Component(script) for script in scripts]
    timeouts = Timeouts(statement_ms=SCHEMA_STATEMENT_TIMEOUT_MS)

    def work(cursor: Cursor) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('champion-mesh schema'))")
        with as_shared_owner(cursor):
            cursor.execute(TABLE)
        for component in components:
            component.bring_up(cursor)

    action = f"the schema of {name}"
    await until_available(lambda: database.run(work, action, timeouts), action)


async def until_available(
    attempt: Callable[[], Awaitable[T]], subject: str, pause_s: float = 0.5
) -> T:
    """Await `attempt()` again every `pause_s` seconds while it raises Unavailable.

    The first failure is logged with its `subject`.
    """

    def log_first(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            why = str(state.outcome and state.outcome.exception())
            log.warning("waiting", extra={"what": subject, "why": why})

    async def call() -> T:
        return await attempt()

    retrying = AsyncRetrying(
        retry=retry_if_exception_type(Unavailable),
        wait=wait_fixed(pause_s),
        before_sleep=log_first,
    )
    result: T = await retrying(call)
    return result
