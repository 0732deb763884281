"""Looks at the training tables now and then: are they still what their models need?

A table may be renamed, dropped or changed, its triggers switched off, and rows may come past them.
State converges here, whatever event was missed. Each look at one table is bounded in rows and time.
"""

import logging
from collections.abc import Mapping
from functools import partial
from typing import Protocol

import psycopg2
from psycopg2.extensions import cursor as Cursor

from service_kit.database import BrokenOff, Database
from trigger_svc.database.queries import QUERIES, of_model, one_row
from trigger_svc.database.table_facts import TableFacts, facts_of
from trigger_svc.database.timeouts import LOOK

log = logging.getLogger(__name__)

ROWS_A_LOOK = 100_000
TABLE, ROWS = "table", "rows"  # kinds of trouble
_UNBATCHED = (
    "{rows:,} rows of training.{model} are in no batch, because they came past the table's"
    " triggers (logical replication, a write straight into a partition, or"
    " session_replication_role = replica): `mesh trigger {model}` trains on them"
)


class TroubleStore(Protocol):
    """The part of PostgresBatches that keeps troubles; see there."""

    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None: ...


class TableWatch:
    """Raises Unavailable when PostgreSQL is away, Superseded when another bridge leads."""

    def __init__(self, database: Database, store: TroubleStore) -> None:
        self._database = database
        self._store = store
        # The highest id of each model's table at the look before. Only rows that were there
        # already are looked at, so that transactions have had time to end.
        self._highest: dict[str, int] = {}

    async def look(self) -> None:
        """Look at every table once and note what keeps rows from getting on."""
        strays = await self._database.run(_register_strays, "registering renamed tables")
        for model in strays:
            log.warning("a renamed table has become a model", extra={"model": model})
        facts = await self._database.run(_facts, "looking at the training tables")
        problems = {fact.model: _text(fact) for fact in facts if fact.problems()}
        await self._store.note_troubles(TABLE, problems)
        highest: dict[str, int] = {}
        for fact in facts:
            if fact.is_readable():
                highest[fact.model] = await self._look_for_rows(fact.model)
        self._highest = highest
        found = await self._database.run(_unbatched_models, "reading the models")
        texts = {model: _UNBATCHED.format(model=model, rows=rows) for model, rows in found}
        await self._store.note_troubles(ROWS, texts)

    async def _look_for_rows(self, model: str) -> int:
        seen = self._highest.get(model, 0)
        try:
            work = partial(_look_for_rows, model, seen)
            return await self._database.run(work, f"looking at the rows of {model}", LOOK)
        except (BrokenOff, psycopg2.Error) as error:
            # Its table is locked or slow to read, or has just been changed: the next look may do.
            log.info("rows not looked at", extra={"model": model, "why": str(error).strip()})
            return seen


def _text(fact: TableFacts) -> str:
    return "; ".join(fact.problems())


def _register_strays(cursor: Cursor) -> list[str]:
    cursor.execute(QUERIES["register_strays"])
    return [row[0] for row in cursor.fetchall()]


def _facts(cursor: Cursor) -> list[TableFacts]:
    cursor.execute(QUERIES["models"])
    return facts_of(cursor, [row[0] for row in cursor.fetchall()])


def _unbatched_models(cursor: Cursor) -> list[tuple[str, int]]:
    cursor.execute(QUERIES["unbatched_models"])
    return [(model, rows) for model, rows in cursor.fetchall()]


def _look_for_rows(model: str, seen: int, cursor: Cursor) -> int:
    """Look at the rows with ids up to `seen`; return the table's highest id."""
    # All statements see the same moment: a row that is visible has its entry in the outbox, or was
    # taken from it, unless it came past the triggers.
    cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    cursor.execute(of_model("highest_id", model))
    highest = int(one_row(cursor)[0])
    cursor.execute(of_model("begin_to_look", model), {"model": model})
    cursor.execute(QUERIES["gaps"], {"model": model, "highest": seen})
    row = cursor.fetchone()
    if row is None or row[1] is None:
        return highest
    looked_to, gaps = row
    cursor.execute(of_model("rows_in_gaps", model), {"gaps": gaps, "limit": ROWS_A_LOOK})
    rows, found, last = one_row(cursor)
    next_id = last + 1 if rows == ROWS_A_LOOK else max(looked_to, seen + 1)
    if next_id > looked_to:
        values = {"model": model, "looked_to": next_id, "found": found}
        cursor.execute(QUERIES["looked"], values)
    return highest
