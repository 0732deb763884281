"""Batches in PostgreSQL, over the cursor of a transaction: sealing and reading them."""

from dataclasses import dataclass
from typing import Any

from psycopg2.extensions import cursor as Cursor

from trigger_svc.batches.batch import Batch, BatchReason, BatchState, batch_id
from trigger_svc.database.queries import QUERIES, of_model, one_row

# Rows are counted one by one only when their ids span no more than this many: about 0.1 s.
COUNTED_IDS = 1_000_000
_ON_DEMAND = (BatchReason.MANUAL, BatchReason.IMPORT)  # sealed by a caller, not by the bridge


@dataclass(frozen=True)
class WaitingRows:
    """Rows that are in no batch: those that came through the triggers, and those that did not."""

    rows: int
    unbatched: int


def seal_waiting_rows(
    cursor: Cursor, model: str, reason: BatchReason, request_id: str | None = None
) -> Batch | None:
    """Seal the waiting rows of a model, and lock the model's row in mesh.models for that.

    Waiting rows that were deleted since are not counted. When none are left, a batch is made only
    for the reasons MANUAL and IMPORT; for any other reason the result is None. A batch also counts
    the rows that were found in no batch: its training reads them.
    """
    cursor.execute(QUERIES["lock_model"], {"model": model})
    number, unbatched = one_row(cursor)
    name = batch_id(model, number)
    cursor.execute(QUERIES["follow_renamed"], {"model": model})
    cursor.execute(QUERIES["take"], {"model": model})
    statements, written, ids = one_row(cursor)
    cursor.execute(QUERIES["cover"], {"model": model, "ids": ids})
    rows = count_training_rows(cursor, model, ids, written)
    if not rows and reason not in _ON_DEMAND:
        return None
    values = {
        "id": name,
        "model": model,
        "number": number,
        "rows": rows + unbatched,
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


def count_training_rows(cursor: Cursor, model: str, ids: str, written: int) -> int:
    """Return how many rows of the train split wait: `written` by statements, within these ids.

    `ids` (an int8multirange) only bounds the search. When it spans more than COUNTED_IDS, nothing
    is counted one by one, and rows that were deleted since count until none is left.
    """
    cursor.execute(QUERIES["has_model"], {"model": model})
    if one_row(cursor) == (False,):
        return 0
    cursor.execute(QUERIES["span"], {"ids": ids})
    if one_row(cursor)[0] <= COUNTED_IDS:
        cursor.execute(of_model("count_rows", model), {"ids": ids})
        return min(int(one_row(cursor)[0]), written)
    cursor.execute(of_model("has_rows", model), {"ids": ids})
    return written if one_row(cursor) == (True,) else 0


def waiting_rows(cursor: Cursor, model: str) -> WaitingRows:
    """Count the rows of a model that are in no batch."""
    cursor.execute(QUERIES["waiting_ids"], {"model": model})
    written, ids, unbatched = one_row(cursor)
    rows = count_training_rows(cursor, model, ids, written) if written else 0
    return WaitingRows(rows, unbatched)


def replace_batch(cursor: Cursor, batch: str, model: str, number: int, error: str) -> str | None:
    """Give the rows of a SEALED batch to a new batch with this number; return its id.

    The old batch ends as FAILED with `error`. None when it is not SEALED any more.
    """
    name = batch_id(model, number)
    values = {"id": batch, "new_id": name, "model": model, "number": number, "error": error}
    cursor.execute(QUERIES["copy_batch"], values)
    if not cursor.rowcount:
        return None
    cursor.execute(QUERIES["batch_replaced"], values)
    cursor.execute(QUERIES["skip_numbers"], values)
    return name


def read_batch(cursor: Cursor, name: str) -> Batch:
    """Return the batch with this id, which must exist."""
    cursor.execute(QUERIES["find_batch"], {"id": name})
    return batch_of(one_row(cursor))


def batch_of(row: tuple[Any, ...]) -> Batch:
    """Return the batch in a row of the queries `find_batch` and `find_batches`."""
    name, model, rows, reason, state, *rest = row
    return Batch(name, model, rows, BatchReason(reason), BatchState(state), *rest)
