"""The lease of the control plane that leads: a row of PostgreSQL, by the clock of PostgreSQL."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from psycopg2.extensions import cursor as Cursor

from control_plane.changes.own_tables import run_on_own_tables
from service_kit.database import Database, Timeouts

T = TypeVar("T")

SCHEMA = Path(__file__).parent / "sql" / "leader.sql"
# Seconds after its latest renewal until another control plane may take the lease.
LEASE_S = 4.0
_TIMEOUTS = Timeouts(statement_ms=2_000, lock_ms=2_000)


@dataclass(frozen=True)
class Holder:
    """A control plane."""

    id: str
    address: str
    """Host and port at which it listens. Only one process can, so a new one at the address of the
    leader knows that the leader has ended."""


class Lease(Protocol):
    """The lease. Every method raises Unavailable when it cannot be asked."""

    async def renew(self, holder: Holder) -> Holder:
        """Take or renew the lease if it is free or the holder's; return who holds it now."""

    async def release(self, holder: Holder) -> None:
        """Give the lease back, if the holder has it."""


class PostgresLease:
    """A Lease in mesh.leader."""

    def __init__(self, database: Database) -> None:
        """The database's connection serves nothing else, so no other work holds up a renewal."""
        self._database = database

    async def renew(self, holder: Holder) -> Holder:
        """See Lease."""

        def work(cursor: Cursor) -> Holder:
            cursor.execute(
                "INSERT INTO mesh.leader AS held (holder, address, epoch, renewed_at)"
                " VALUES (%s, %s, 1, clock_timestamp()) ON CONFLICT (one_row) DO UPDATE SET"
                " holder = EXCLUDED.holder, address = EXCLUDED.address,"
                " epoch = held.epoch + (held.holder <> EXCLUDED.holder)::integer,"
                " renewed_at = clock_timestamp() WHERE held.holder = EXCLUDED.holder"
                " OR held.address = EXCLUDED.address"
                " OR held.renewed_at < clock_timestamp() - make_interval(secs => %s)",
                (holder.id, holder.address, LEASE_S),
            )
            cursor.execute("SELECT holder, address FROM mesh.leader")
            row = cursor.fetchone()
            assert row is not None
            return Holder(*row)

        return await self._run(work)

    async def release(self, holder: Holder) -> None:
        """See Lease."""

        def work(cursor: Cursor) -> None:
            cursor.execute(
                "UPDATE mesh.leader SET renewed_at = '-infinity' WHERE holder = %s", (holder.id,)
            )

        await self._run(work)

    async def _run(self, work: Callable[[Cursor], T]) -> T:
        return await run_on_own_tables(
            self._database, work, "the lease of the control plane", _TIMEOUTS
        )
