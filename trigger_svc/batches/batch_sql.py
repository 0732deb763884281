"""Batches in PostgreSQL, over the cursor of a transaction: sealing and reading them."""

from typing import Any

from psycopg2.extensions import cursor as Cursor

from trigger_svc.batches.batch import Batch, BatchReason, BatchState, batch_id
from trigger_svc.database.queries import QUERIES, of_model, one_row

_ON_DEMAND = (BatchReason.MANUAL, BatchReason.IMPORT)  # sealed by a caller, not by the bridge


def seal_waiting_rows(
    cursor: Cursor, model: str, reason: BatchReason, request_id: str | None = None
) -> Batch | None:
    """Seal the waiting rows of a model, and lock the model's row in mesh.models for that.

    Waiting rows that were deleted since are not counted. When none are left, a batch is made only
    for the reasons MANUAL and IMPORT; for any other reason the result is None.
    """
    cursor.execute(QUERIES["lock_model"], {"model": model})
    (number,) = one_row(cursor)
    name = batch_id(model, number)
    cursor.execute(QUERIES["take"], {"model": model})
    statements, ids = one_row(cursor)
    rows = count_training_rows(cursor, model, ids)
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
    return read_batch(cursor, name)


def count_training_rows(cursor: Cursor, model: str, ids: str) -> int:
    """Return how many rows of the train split have these ids (an int8multirange)."""
    cursor.execute(QUERIES["has_model"], {"model": model})
    if one_row(cursor) == (False,):
        return 0
    cursor.execute(of_model("count_rows", model), {"ids": ids})
    return int(one_row(cursor)[0])


def read_batch(cursor: Cursor, name: str) -> Batch:
    """Return the batch with this id, which must exist."""
    cursor.execute(QUERIES["find_batch"], {"id": name})
    return batch_of(one_row(cursor))


def batch_of(row: tuple[Any, ...]) -> Batch:
    """Return the batch in a row of the queries `find_batch` and `find_batches`."""
    name, model, rows, reason, state, *rest = row
    return Batch(name, model, rows, BatchReason(reason), BatchState(state), *rest)
