"""Writes entries of the audit into PostgreSQL, without ever holding up or failing a call."""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, fields
from importlib import resources
from itertools import islice
from pathlib import Path

import psycopg2
from prometheus_client import Counter
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import execute_values

from service_kit.callers.audit_entry import Entry
from service_kit.database import Database, Timeouts
from service_kit.errors import Unavailable

log = logging.getLogger(__name__)

SCHEMA = Path(str(resources.files("service_kit.audit") / "sql" / "audit.sql"))
# Entries that wait while the database is away. An entry beyond them goes to the log.
MAX_WAITING = 10_000
BATCH = 500
# Seconds between two attempts while entries cannot be written.
AGAIN_S = 1.0
# Seconds that the entries which wait at a stop have to be written.
CLOSE_S = 5.0
_TIMEOUTS = Timeouts(statement_ms=5_000, lock_ms=5_000)

NOT_WRITTEN = Counter(
    "mesh_audit_entries_not_written",
    "Entries of the audit that went to the log, because the database did not take them.",
)

_COLUMNS = tuple(field.name for field in fields(Entry))
# Without a named constraint, the right to insert is enough for this.
_INSERT = f"INSERT INTO mesh.audit ({', '.join(_COLUMNS)}) VALUES %s ON CONFLICT DO NOTHING"  # noqa: S608


class AuditLog:
    """Takes entries at once and writes them in batches, in the order in which they came."""

    def __init__(self, database_url: str, service: str) -> None:
        """`service` names the connection in PostgreSQL."""
        self._database = Database(database_url, f"{service}-audit", threads=1)
        self._waiting: deque[Entry] = deque()
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._task: asyncio.Task[None] | None = None
        self._trouble = ""
        self._not_written = 0

    @property
    def waiting(self) -> int:
        """How many entries wait."""
        return len(self._waiting)

    def record(self, entry: Entry) -> None:
        """Take an entry. It is written soon, or goes to the log if too many wait."""
        if len(self._waiting) >= MAX_WAITING:
            self._to_log(entry, f"{MAX_WAITING:,} entries wait already")
            return
        self._waiting.append(entry)
        self._written.clear()
        self._wake.set()

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.create_task(self._run(), name="audit")

    async def close(self) -> None:
        """Write what waits, for CLOSE_S at most; what is left then goes to the log."""
        if self._task is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._written.wait(), CLOSE_S)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        while self._waiting:
            self._to_log(self._waiting.popleft(), self._trouble or "this process ends")
        await self._database.close()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._write_some()
            self._written.set()

    async def _write_some(self) -> None:
        batch = list(islice(self._waiting, BATCH))
        try:
            await self._database.run(
                lambda cursor: _insert(cursor, batch), "writing the audit", _TIMEOUTS
            )
        except (Unavailable, psycopg2.Error) as error:
            self._tell(str(error).strip())
            await asyncio.sleep(AGAIN_S)
            return
        for _ in batch:
            self._waiting.popleft()
        self._tell("")

    def _tell(self, trouble: str) -> None:
        """Log a trouble when it begins, and when all is well again."""
        if trouble and not self._trouble:
            log.warning(
                "entries of the audit wait for the database; calls go on",
                extra={"why": trouble, "waiting": len(self._waiting), "most": MAX_WAITING},
            )
        elif self._trouble and not trouble:
            log.info("entries of the audit are written again")
        self._trouble = trouble

    def _to_log(self, entry: Entry, why: str) -> None:
        NOT_WRITTEN.inc()
        self._not_written += 1
        log.error(
            "an entry of the audit is not in the database, but here",
            extra={"entry": asdict(entry), "why": why, "so_far": self._not_written},
        )


def _insert(cursor: Cursor, entries: Sequence[Entry]) -> None:
    execute_values(cursor, _INSERT, [astuple(entry) for entry in entries], page_size=BATCH)
