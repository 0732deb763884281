"""PostgreSQL for async services: psycopg2 in threads, one connection a thread, reconnecting."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import psycopg2
from psycopg2.extensions import connection as Connection
from psycopg2.extensions import cursor as Cursor

from service_kit.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECT_TIMEOUT_S = 5
# A half-open connection is noticed after about 20 s instead of hours.
_KEEPALIVE: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}


def connect(url: str, application_name: str) -> Connection:
    """Open a connection that notices when its other end is gone.

    Raises Unavailable when the server is away.
    """
    try:
        connection: Connection = psycopg2.connect(
            url,
            application_name=application_name,
            connect_timeout=CONNECT_TIMEOUT_S,
            **_KEEPALIVE,
        )
        return connection
    except psycopg2.OperationalError as error:
        raise Unavailable(f"PostgreSQL is away: {str(error).strip().splitlines()[0]}") from error


class Database:
    """Runs functions over a cursor, each in one transaction, in a few threads."""

    def __init__(self, url: str, application_name: str, threads: int = 4) -> None:
        self.url = url
        self._application_name = application_name
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="postgres")
        self._open: set[Connection] = set()

    async def run(self, work: Callable[[Cursor], T]) -> T:
        """Run `work(cursor)` in a transaction of its own and return what it returns.

        Raises Unavailable when PostgreSQL is away; then nothing was committed, or, when the
        connection broke during COMMIT, the caller cannot know: `work` has to be idempotent.
        """
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, work)

    def _run(self, work: Callable[[Cursor], T]) -> T:
        fresh = getattr(self._local, "connection", None) is None
        try:
            return self._attempt(work)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if fresh:
                raise Unavailable(f"PostgreSQL is away: {_first_line(error)}") from error
        # An idle connection may have died unnoticed: once more on a new one.
        try:
            return self._attempt(work)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            raise Unavailable(f"PostgreSQL is away: {_first_line(error)}") from error

    def _attempt(self, work: Callable[[Cursor], T]) -> T:
        connection = self._connection()
        try:
            with connection, connection.cursor() as cursor:
                return work(cursor)
        except (psycopg2.OperationalError, psycopg2.InterfaceError):
            self._drop(connection)
            raise

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = connect(self.url, self._application_name)
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


async def apply_schema(database: Database, name: str, script: Path) -> None:
    """Run an idempotent SQL file, one service at a time, waiting for PostgreSQL if it is away."""
    sql = script.read_text()

    def work(cursor: Cursor) -> None:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtext('champion-mesh schema'))")
        cursor.execute(sql)

    await until_available(lambda: database.run(work), f"schema of {name}")


async def until_available(
    attempt: Callable[[], Awaitable[T]], what: str, pause_s: float = 0.5
) -> T:
    """Await `attempt()` again and again while it raises Unavailable; log the first time."""
    logged = False
    while True:
        try:
            return await attempt()
        except Unavailable as error:
            if not logged:
                log.warning("waiting", extra={"what": what, "why": str(error)})
                logged = True
            await asyncio.sleep(pause_s)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
