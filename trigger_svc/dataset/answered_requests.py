"""Answers by request id: the same request again changes nothing and gets the same answer."""

from collections.abc import Callable
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from service_kit.errors import AlreadyExists
from trigger_svc.database.queries import QUERIES, one_row

Answer = dict[str, Any]


def answer_once(
    cursor: Cursor, request_id: str, method: str, model: str, work: Callable[[], Answer]
) -> Answer:
    """Return the stored answer of this request, or call `work()` and store what it returns.

    All of it belongs to the cursor's transaction. While another transaction works on the same id,
    this one waits for its end. Raises AlreadyExists when the id belongs to another method or model.
    """
    values = {"id": request_id, "method": method, "model": model}
    cursor.execute(QUERIES["begin_request"], values)
    answer: Answer
    if cursor.rowcount:
        answer = work()
        cursor.execute(QUERIES["end_request"], {"id": request_id, "answer": Json(answer)})
        return answer
    cursor.execute(QUERIES["find_request"], {"id": request_id})
    first_method, first_model, stored_answer = one_row(cursor)
    if (first_method, first_model) != (method, model):
        # The caller may have no business with the other model.
        used = first_method if first_model == model else "another model"
        raise AlreadyExists(f"request_id {request_id!r} was used for {used}; choose another id")
    answer = stored_answer
    return answer
