"""The bridge's own session with PostgreSQL: it leads, listens for wake-ups, and says it is awake.

While the bridge is awake it looks for rows by itself, and the triggers of the training tables wake
nobody: a NOTIFY at every commit would make all writers wait for one lock.
"""

import asyncio

import psycopg2
from psycopg2.extensions import connection as Connection

from service_kit.database import connect
from trigger_svc.database.queries import QUERIES
from trigger_svc.database.timeouts import BRIDGE_SESSION

_KEY = "hashtext('champion-mesh'), hashtext"
_LEAD = f"SELECT pg_try_advisory_lock({_KEY}('bridge'))"
# Busy writers hold this lock shared, one or another of them at any time, so pg_try_advisory_lock
# might never get it. While the bridge waits for it, later writers already take it as held.
_WAKE = f"SET lock_timeout = '100ms'; SELECT pg_advisory_lock({_KEY}('bridge awake'))"
# PostgreSQL ends a session that is silent for this long, because its process is stopped or cut
# off; then a bridge that stands by follows. A bridge at work speaks every LIVENESS_S seconds.
_SILENCE = "SET idle_session_timeout = '30s'"
_SLEEP = f"SELECT pg_advisory_unlock({_KEY}('bridge awake'))"


class BridgeSession:
    """One session in autocommit mode. Every method raises psycopg2.Error when it is lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.awake = False
        self.epoch: int | None = None
        """Set while this session leads; each bridge that comes to lead gets a higher epoch."""

    @classmethod
    async def open(cls, url: str) -> "BridgeSession":
        """Connect and listen. Raises Unavailable when PostgreSQL is away."""
        connection = await asyncio.to_thread(connect, url, "mesh-bridge", BRIDGE_SESSION)
        connection.autocommit = True
        session = cls(connection)
        try:
            await session._execute(_SILENCE)
            await session._execute("LISTEN mesh_outbox")
        except BaseException:
            connection.close()
            raise
        return session

    def close(self) -> None:
        """End the session and with it the leadership."""
        self._connection.close()

    async def try_lead(self) -> bool:
        """Become the bridge that works; False when another one is.

        From now on PostgreSQL refuses what earlier bridges still try to write.
        """
        if await self._execute(_LEAD):
            self.epoch = int(str(await self._execute(QUERIES["lead"])))
        return self.epoch is not None

    async def stay_awake(self) -> None:
        """Tell writers not to wake the bridge, because it looks by itself; sets `awake`.

        `awake` stays False while a transaction that will wake the bridge is still open.
        """
        if self.awake:
            return
        try:
            await self._execute(_WAKE)
            self.awake = True
        except psycopg2.errors.LockNotAvailable:
            self.awake = False

    async def fall_asleep(self) -> int:
        """Tell writers to wake the bridge again.

        Returns a fence: transactions with a lower id may not have woken the bridge, so it has to
        look once more after the last of them has ended.
        """
        await self._execute(_SLEEP)
        self.awake = False
        return await self.fence()

    async def fence(self) -> int:
        """Return the lowest id that the next transaction can get."""
        return int(str(await self._execute(QUERIES["next_transaction"])))

    async def can_prepare(self) -> bool:
        """Return whether writers may use PREPARE TRANSACTION, which allows no NOTIFY."""
        return str(await self._execute("SHOW max_prepared_transactions")) != "0"

    async def check(self) -> None:
        """Make sure that the session still lives."""
        await self._execute("SELECT 1")

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a wake-up; return False when none came within `timeout_s` seconds."""
        if not self._connection.notifies:
            loop = asyncio.get_running_loop()
            readable = asyncio.Event()
            descriptor = self._connection.fileno()
            loop.add_reader(descriptor, readable.set)
            try:
                # Not asyncio.wait_for, which may swallow a cancellation in Python 3.11.
                async with asyncio.timeout(timeout_s):
                    await readable.wait()
            except TimeoutError:
                return False
            finally:
                loop.remove_reader(descriptor)
            self._connection.poll()
        notified = bool(self._connection.notifies)
        self._connection.notifies.clear()
        return notified

    async def _execute(self, sql: str) -> object:
        return await asyncio.to_thread(self._run, sql)

    def _run(self, sql: str) -> object:
        with self._connection.cursor() as cursor:
            cursor.execute(sql)
            row = cursor.fetchone() if cursor.description else None
            return None if row is None else row[0]
