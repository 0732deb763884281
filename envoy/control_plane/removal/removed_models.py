"""Which models were removed, or are being removed: a table of PostgreSQL, with a copy in memory."""

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar

from psycopg2.extensions import cursor as Cursor

from control_plane.changes.own_tables import run_on_own_tables
from service_kit.database import Database
from service_kit.model_registry.records import VersionRef

T = TypeVar("T")

SCHEMA = Path(__file__).parent / "sql" / "removed_models.sql"
# Removals that are remembered; the oldest that are done are forgotten.
REMEMBERED = 10_000


@dataclass(frozen=True)
class Removal:
    """The removal of one model."""

    model: str
    created_at: int
    """When MLflow created the model, as RegisteredModel has it; 0: MLflow did not have it."""

    versions: tuple[str, ...]
    sources: tuple[str, ...]
    with_rows: bool
    request_id: str = ""
    """Request that asked for it."""

    rows_removed: bool = False
    done: bool = False

    def removed(self, ref: VersionRef) -> bool:
        """Return whether a version of this name is one of the removed model."""
        return not ref.source or not self.sources or ref.source in self.sources


class RemovalStore(Protocol):
    """Keeps removals. Both methods raise Unavailable while PostgreSQL is away."""

    async def all(self) -> list[Removal]:
        """Return every removal that is remembered."""

    async def save(self, removal: Removal) -> None:
        """Keep a removal in place of an earlier one of the same name."""


class RemovedModels:
    """The removals; `load` reads them when this control plane begins to lead."""

    def __init__(self, store: RemovalStore) -> None:
        self._store = store
        self._removals: dict[str, Removal] = {}

    async def load(self) -> None:
        """Read the removals. Raises Unavailable."""
        # Another control plane may have gone on with those that this one knows.
        self._removals |= {removal.model: removal for removal in await self._store.all()}

    async def save(self, removal: Removal) -> None:
        """Keep a removal. Raises Unavailable."""
        await self._store.save(removal)
        self._removals[removal.model] = removal

    def find(self, model: str) -> Removal | None:
        """Return the latest removal of a model; None: there was none."""
        return self._removals.get(model)

    @property
    def unfinished(self) -> list[Removal]:
        """The removals that were broken off."""
        return [removal for removal in self._removals.values() if not removal.done]

    def removed(self, model: str, ref: VersionRef) -> bool:
        """Return whether a replica has to drop a version of a model that MLflow does not have."""
        removal = self._removals.get(model)
        return removal is not None and removal.removed(ref)


class PostgresRemovals:
    """A RemovalStore in mesh.removed_models."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self) -> list[Removal]:
        """See RemovalStore."""

        def work(cursor: Cursor) -> list[Removal]:
            cursor.execute(
                "SELECT model, created_at, versions, sources, with_rows, request_id,"
                " rows_removed, done"
                " FROM mesh.removed_models ORDER BY removed_at DESC LIMIT %s",
                (REMEMBERED,),
            )
            return [
                replace(Removal(*row), versions=tuple(row[2]), sources=tuple(row[3]))
                for row in cursor.fetchall()
            ]

        return await self._run(work)

    async def save(self, removal: Removal) -> None:
        """See RemovalStore. What was recorded of the model's promotions goes once it is done."""
        values = [list(v) if isinstance(v, tuple) else v for v in astuple(removal)]

        def work(cursor: Cursor) -> None:
            cursor.execute(
                "INSERT INTO mesh.removed_models"
                " (model, created_at, versions, sources, with_rows, request_id, rows_removed, done)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT (model) DO UPDATE SET"
                " created_at = EXCLUDED.created_at, versions = EXCLUDED.versions,"
                " sources = EXCLUDED.sources, with_rows = EXCLUDED.with_rows,"
                " request_id = EXCLUDED.request_id,"
                " rows_removed = EXCLUDED.rows_removed, done = EXCLUDED.done, removed_at = now()",
                values,
            )
            if removal.done:
                cursor.execute(
                    "DELETE FROM mesh.promotions WHERE model = %s AND created_at IN (0, %s)",
                    (removal.model, removal.created_at),
                )
                cursor.execute(
                    "DELETE FROM mesh.removed_models WHERE done AND removed_at < (SELECT removed_at"
                    " FROM mesh.removed_models ORDER BY removed_at DESC OFFSET %s LIMIT 1)",
                    (REMEMBERED - 1,),
                )

        await self._run(work)

    async def _run(self, work: Callable[[Cursor], T]) -> T:
        return await run_on_own_tables(self._database, work, "the record of removed models")
