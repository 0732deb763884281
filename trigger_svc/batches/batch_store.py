"""What the bridge reads and changes in PostgreSQL, each call one transaction."""

from decimal import Decimal
from typing import Any

from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from trigger_svc.batches.batch import Batch, BatchReason, BatchState, OpenBatch, batch_id
from trigger_svc.batches.sealing import ModelWork, SealPolicy, Waiting
from trigger_svc.database.queries import QUERIES, of_model
from trigger_svc.settings import TriggerSettings

_ON_DEMAND = (BatchReason.MANUAL, BatchReason.IMPORT)  # by somebody else than the bridge
KEEP_BATCHES = 100  # of each model, however old they are


class Superseded(Exception):
    """Another bridge leads: what this one decided may be out of date."""


class BatchStore:
    """Batches and outbox of every model.

    Whatever changes something raises Superseded, and changes nothing, once another bridge leads.
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
        """Return the models with rows that wait or a batch that is open, ordered by name."""

        def work(cursor: Cursor) -> list[ModelWork]:
            cursor.execute(QUERIES["scan"], self._defaults)
            return [_model_work(row) for row in cursor.fetchall()]

        return await self._database.run(work)

    def lead(self, epoch: int) -> None:
        """Write as the bridge of this epoch from now on."""
        self._epoch = epoch

    async def oldest_transaction(self) -> int:
        """Return the oldest transaction id that may still be at work."""

        def work(cursor: Cursor) -> int:
            cursor.execute(QUERIES["oldest_transaction"])
            return int(_one(cursor))

        return await self._database.run(work)

    async def seal(self, model: str, reason: BatchReason) -> Batch | None:
        """Seal the waiting rows of `model`; None when somebody else is at it, or none are left."""

        epoch = self._epoch

        def work(cursor: Cursor) -> Batch | None:
            _check_lead(cursor, epoch)
            cursor.execute(QUERIES["try_lock_model"], {"model": model})
            if cursor.fetchone() is None:
                return None
            cursor.execute(QUERIES["has_open_batch"], {"model": model})
            if _one(cursor):
                return None
            return seal(cursor, model, reason)

        return await self._database.run(work)

    async def accepted(self, batch: str) -> None:
        """Airflow has a run for this batch."""
        await self._execute("batch_accepted", id=batch)

    async def deferred(self, batch: str, error: str) -> None:
        """Airflow did not take the batch this time."""
        await self._execute("batch_deferred", id=batch, error=error)

    async def refused(self, batch: str, error: str) -> None:
        """Airflow will never take the batch."""
        await self._execute("batch_refused", id=batch, error=error)

    async def ended(self, batch: str, state: BatchState, error: str) -> None:
        """The run of this batch has ended."""
        await self._execute("batch_ended", id=batch, state=state, error=error)

    async def forget_old(self) -> None:
        """Delete what nobody asks for any more."""
        await self._execute("forget_old", days=self._keep_days, newest=KEEP_BATCHES)

    async def _execute(self, query: str, **values: Any) -> None:
        # Now, not in the thread, which may outlive this bridge's time.
        epoch = self._epoch

        def work(cursor: Cursor) -> None:
            _check_lead(cursor, epoch)
            cursor.execute(QUERIES[query], values)

        await self._database.run(work)


def seal(
    cursor: Cursor, model: str, reason: BatchReason, request_id: str | None = None
) -> Batch | None:
    """Seal the waiting rows of a model whose row in mesh.models is locked.

    Rows that were deleted since do not count. Without any row an automatic batch is not made
    (None); a manual or import batch always is.
    """
    cursor.execute(QUERIES["lock_model"], {"model": model})
    number = _one(cursor)
    name = batch_id(model, number)
    cursor.execute(QUERIES["take"], {"model": model})
    statements, ids = _row(cursor)
    rows = count_rows(cursor, model, ids)
    if not rows and reason not in _ON_DEMAND:
        return None
    values = {
        "id": name,
        "model": model,
        "number": number,
        "rows": rows,
        "statements": statements,
        "row_ids": ids,
        "reason": reason,
        "request_id": request_id,
    }
    cursor.execute(QUERIES["create_batch"], values)
    cursor.execute(QUERIES["count_batch_up"], {"model": model})
    if reason in _ON_DEMAND:
        cursor.execute(QUERIES["wake_bridge"])
    return find_batch(cursor, name)


def count_rows(cursor: Cursor, model: str, ids: str) -> int:
    """Return how many training rows with these ids (an int8multirange) there are."""
    cursor.execute(QUERIES["has_model"], {"model": model})
    if not _one(cursor):
        return 0
    cursor.execute(of_model("count_rows", model), {"ids": ids})
    return int(_one(cursor))


def find_batch(cursor: Cursor, name: str) -> Batch:
    """Return the batch with this id."""
    cursor.execute(QUERIES["find_batch"], {"id": name})
    return to_batch(_row(cursor))


def to_batch(row: tuple[Any, ...]) -> Batch:
    """Make a Batch from a row of the queries `find_batch` and `find_batches`."""
    name, model, rows, reason, state, *rest = row
    return Batch(name, model, rows, BatchReason(reason), BatchState(state), *rest)


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
    retries: int,
    running_s: Decimal | None,
) -> OpenBatch:
    return OpenBatch(
        name, model, rows, BatchReason(reason), BatchState(state), retries, _seconds(running_s or 0)
    )


def _check_lead(cursor: Cursor, epoch: int) -> None:
    cursor.execute(QUERIES["check_lead"], {"epoch": epoch})
    if not _one(cursor):
        raise Superseded


def _seconds(value: Decimal | float) -> float:
    return max(float(value), 0.0)


def _one(cursor: Cursor) -> Any:
    return _row(cursor)[0]


def _row(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
