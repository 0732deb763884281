"""Answers by request id: the same request again changes nothing and gets the same answer."""

from collections.abc import Callable
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from service_kit.errors import AlreadyExists
from trigger_svc.database.queries import QUERIES

Answer = dict[str, Any]


def once(
    cursor: Cursor, request_id: str, method: str, model: str, work: Callable[[], Answer]
) -> Answer:
    """Return what `work()` returned for this id, now or before, in the cursor's transaction.

    A second request with an id that is at work waits for the first one's end. Raises
    AlreadyExists when the id belongs to another method or model.
    """
    values = {"id": request_id, "method": method, "model": model}
    cursor.execute(QUERIES["begin_request"], values)
    if cursor.rowcount:
        answer = work()
        cursor.execute(QUERIES["end_request"], {"id": request_id, "answer": Json(answer)})
        return answer
    cursor.execute(QUERIES["find_request"], {"id": request_id})
    row = cursor.fetchone()
    assert row is not None
    if (row[0], row[1]) != (method, model):
        raise AlreadyExists(f"request_id {request_id!r} was used for {row[0]} of model {row[1]!r}")
    stored: Answer = row[2]
    return stored
