"""The bridge's own session with PostgreSQL: leadership, wake-ups, and telling that it is awake."""

import asyncio

import psycopg2
from psycopg2.extensions import connection as Connection

from service_kit.database import connect
from trigger_svc.database.queries import QUERIES

_KEY = "hashtext('champion-mesh'), hashtext"
_LEAD = f"SELECT pg_try_advisory_lock({_KEY}('bridge'))"
# Not pg_try_…: of several busy writers one always holds it shared. Those who come while we wait
# for it already take it as held.
_WAKE = f"SET lock_timeout = '100ms'; SELECT pg_advisory_lock({_KEY}('bridge awake'))"
# A session that says nothing for so long belongs to a process that is stopped or cut off: it ends,
# and the standby follows. The bridge at work speaks every LIVENESS_S seconds.
_SILENCE = "SET idle_session_timeout = '30s'"
_SLEEP = f"SELECT pg_advisory_unlock({_KEY}('bridge awake'))"


class Wakeups:
    """One session in autocommit mode. Every method raises psycopg2.Error when it is lost."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.awake = False
        self.epoch: int | None = None
        """Set while it leads: every bridge that comes to lead has a higher one."""

    @classmethod
    async def open(cls, url: str) -> "Wakeups":
        """Connect and listen. Raises Unavailable when PostgreSQL is away."""
        connection = await asyncio.to_thread(connect, url, "mesh-bridge")
        connection.autocommit = True
        wakeups = cls(connection)
        try:
            await wakeups._execute(_SILENCE)
            await wakeups._execute("LISTEN mesh_outbox")
        except BaseException:
            connection.close()
            raise
        return wakeups

    def close(self) -> None:
        """End the session and with it the leadership."""
        self._connection.close()

    async def lead(self) -> bool:
        """Become the bridge that works; False when another one is.

        From now on, what the bridges before this one still write is refused.
        """
        if await self._execute(_LEAD):
            self.epoch = int(str(await self._execute(QUERIES["lead"])))
        return self.epoch is not None

    async def stay_awake(self) -> None:
        """Tell writers not to wake the bridge: it looks by itself.

        Not so while a transaction that woke it goes on: then writers go on to wake it.
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

        Returns a fence: a transaction with an id below it may have left the wake-up out, so that
        the bridge has to look once more after the last of those has ended.
        """
        await self._execute(_SLEEP)
        self.awake = False
        return await self.fence()

    async def fence(self) -> int:
        """Return the id that the next transaction will get at the earliest."""
        return int(str(await self._execute(QUERIES["next_transaction"])))

    async def check(self) -> None:
        """Find out whether the session still lives."""
        await self._execute("SELECT 1")

    async def wait(self, timeout_s: float) -> bool:
        """Wait for a wake-up; False when none came in time."""
        if not self._connection.notifies:
            loop = asyncio.get_running_loop()
            readable = asyncio.Event()
            descriptor = self._connection.fileno()
            loop.add_reader(descriptor, readable.set)
            try:
                # Not wait_for: of Python 3.11, it may swallow a cancellation.
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
