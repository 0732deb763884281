"""The bridge's view of the batches and the outbox in PostgreSQL; each call is one transaction."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from trigger_svc.batches.batch import Batch, BatchReason, BatchState, OpenBatch, batch_id
from trigger_svc.batches.batch_sql import replace_batch, seal_waiting_rows
from trigger_svc.batches.sealing import ModelWork, SealPolicy, Waiting
from trigger_svc.database.queries import QUERIES, one_row
from trigger_svc.database.timeouts import SEALING
from trigger_svc.settings import TriggerSettings

KEEP_BATCHES = 100  # the newest of each model that stay, whatever their age


class Superseded(Exception):
    """Another bridge leads, so what this bridge decided may be out of date."""


class PostgresBatches:
    """Batches and outbox of every model.

    Once another bridge leads, every method that writes raises Superseded and changes nothing.
    Every method raises Unavailable when PostgreSQL is away.
    """

    def __init__(self, database: Database, settings: TriggerSettings) -> None:
        self._database = database
        self._keep_days = settings.keep_days
        self._epoch = 0
        self._defaults = {
            "seal_rows": settings.seal_rows,
            "seal_quiet_ms": settings.seal_quiet_ms,
            "seal_age_ms": settings.seal_age_ms,
        }

    async def scan(self) -> list[ModelWork]:
        """Return the models that have waiting rows or an open batch, ordered by name."""

        def work(cursor: Cursor) -> list[ModelWork]:
            cursor.execute(QUERIES["scan"], self._defaults)
            return [_model_work(row) for row in cursor.fetchall()]

        return await self._database.run(work, "reading the outbox")

    def write_as(self, epoch: int) -> None:
        """Write as the bridge of this epoch from now on."""
        self._epoch = epoch

    async def oldest_transaction(self) -> int:
        """Return the id of the oldest transaction that may still be open."""

        def work(cursor: Cursor) -> int:
            cursor.execute(QUERIES["oldest_transaction"])
            return int(one_row(cursor)[0])

        return await self._database.run(work)

    async def seal(self, model: str, reason: BatchReason) -> Batch | None:
        """Seal the waiting rows of `model`.

        None when another transaction holds the model, a batch of it is open, or no rows are left.
        Raises BrokenOff when the model's table is locked.
        """
        epoch = self._epoch

        def work(cursor: Cursor) -> Batch | None:
            _check_leads(cursor, epoch)
            cursor.execute(QUERIES["try_lock_model"], {"model": model})
            if cursor.fetchone() is None:
                return None
            cursor.execute(QUERIES["has_open_batch"], {"model": model})
            if one_row(cursor) == (True,):
                return None
            return seal_waiting_rows(cursor, model, reason)

        return await self._database.run(work, f"sealing a batch of {model}", SEALING)

    async def mark_accepted(self, batch: str) -> None:
        """Record that Airflow has a run for this batch."""
        await self._mark("batch_accepted", batch)

    async def mark_deferred(self, batch: str, error: str) -> None:
        """Record that Airflow did not take the batch this time."""
        await self._mark("batch_deferred", batch, error=error)

    async def mark_refused(self, batch: str, error: str) -> None:
        """Record that Airflow will never take the batch."""
        await self._mark("batch_refused", batch, error=error)

    async def replace(self, batch: str, model: str, skip: int, error: str) -> None:
        """Give the rows of a SEALED batch to a new one whose number lies `skip` further.

        The old batch ends as FAILED with `error`, in which `{batch}` becomes the new one's id.
        """
        epoch = self._epoch

        def work(cursor: Cursor) -> None:
            _check_leads(cursor, epoch)
            cursor.execute(QUERIES["lock_model"], {"model": model})
            row = cursor.fetchone()
            if row is not None:
                number = row[0] + skip - 1
                text = error.format(batch=batch_id(model, number))
                replace_batch(cursor, batch, model, number, text)

        await self._database.run(work, f"giving the rows of {batch} to a new batch")

    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None:
        """Let these be the troubles of this kind, by model; others of the kind have ended."""
        epoch = self._epoch

        def work(cursor: Cursor) -> None:
            _check_leads(cursor, epoch)
            cursor.execute(QUERIES["end_troubles"], {"kind": kind, "models": list(troubles)})
            for model, message in troubles.items():
                values = {"kind": kind, "model": model, "message": message}
                cursor.execute(QUERIES["note_trouble"], values)

        await self._database.run(work, "noting troubles")

    async def mark_ended(self, batch: str, state: BatchState, error: str) -> None:
        """Record that the run of this batch has ended."""
        await self._mark("batch_ended", batch, state=state, error=error)

    async def delete_old(self) -> None:
        """Delete batches, requests and removals that are past their days; see `keep_days`."""
        values = {"days": self._keep_days, "newest": KEEP_BATCHES}
        await self._write("forget_old", "deleting old batches", values)

    async def _mark(self, query: str, batch: str, **values: Any) -> None:
        await self._write(query, f"the state of batch {batch}", {"id": batch} | values)

    async def _write(self, query: str, action: str, values: Mapping[str, Any]) -> None:
        # Read here and not in the thread, which may run when this process has a later epoch.
        epoch = self._epoch

        def work(cursor: Cursor) -> None:
            _check_leads(cursor, epoch)
            cursor.execute(QUERIES[query], values)

        await self._database.run(work, action)


def _model_work(row: tuple[Any, ...]) -> ModelWork:
    model, seal_rows, quiet_s, age_s, rows, oldest_s, newest_s, *batch = row
    return ModelWork(
        model=model,
        policy=SealPolicy(seal_rows, _seconds(quiet_s), _seconds(age_s)),
        waiting=None if rows is None else Waiting(rows, _seconds(oldest_s), _seconds(newest_s)),
        batch=None if batch[0] is None else _open_batch(model, *batch),
    )


def _open_batch(
    model: str,
    name: str,
    rows: int,
    reason: str,
    state: str,
    key: str,
    retries: int,
    running_s: Decimal | None,
) -> OpenBatch:
    since = _seconds(running_s or 0)
    return OpenBatch(name, model, rows, BatchReason(reason), BatchState(state), key, retries, since)


def _check_leads(cursor: Cursor, epoch: int) -> None:
    cursor.execute(QUERIES["check_lead"], {"epoch": epoch})
    if one_row(cursor) == (False,):
        raise Superseded


def _seconds(value: Decimal | float) -> float:
    return max(float(value), 0.0)
