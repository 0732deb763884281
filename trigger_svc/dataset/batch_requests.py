"""What callers ask about batches: to seal one now, to send one again, to list them."""

from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import FailedPrecondition, MeshError, NotFound
from trigger_svc.batches.batch import Batch, BatchReason
from trigger_svc.batches.batch_sql import batch_of, read_batch, seal_waiting_rows
from trigger_svc.database.queries import QUERIES
from trigger_svc.database.timeouts import WHOLE_TABLE
from trigger_svc.dataset.answered_requests import Answer, answer_once
from trigger_svc.dataset.model_tables import check_model_exists


class BatchRequests:
    """Every method raises Unavailable when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def trigger(self, model: str, request_id: str) -> Batch:
        """Seal a batch now of the rows that wait, even of none.

        Raises NotFound, AlreadyExists.
        """

        def work(cursor: Cursor) -> Batch:
            check_model_exists(cursor, model)

            def seal_now() -> Answer:
                batch = seal_waiting_rows(cursor, model, BatchReason.MANUAL, request_id)
                assert batch is not None
                return {"batch": batch.id}

            answer = answer_once(cursor, request_id, "Trigger", model, seal_now)
            return read_batch(cursor, answer["batch"])

        return await self._database.run(work, f"sealing a batch of {model}", WHOLE_TABLE)

    async def retry(self, model: str, batch: str, request_id: str) -> Batch:
        """Send a failed or refused batch again; an empty `batch` means the model's newest of those.

        Raises NotFound, FailedPrecondition, AlreadyExists.
        """

        def work(cursor: Cursor) -> Batch:
            check_model_exists(cursor, model)

            def send_again() -> Answer:
                # Sealing takes this lock too, so batches queue in the order of their commits.
                cursor.execute(QUERIES["lock_model"], {"model": model})
                name = batch or _newest_ended_badly(cursor, model)
                cursor.execute(QUERIES["send_again"], {"id": name, "model": model})
                if not cursor.rowcount:
                    raise _why_not_sent_again(cursor, model, name)
                cursor.execute(QUERIES["wake_bridge"])
                return {"batch": name}

            answer = answer_once(cursor, request_id, "Retry", model, send_again)
            return read_batch(cursor, answer["batch"])

        return await self._database.run(work, f"sending a batch of {model} again")

    async def newest(self, model: str, limit: int, unresolved: bool = False) -> list[Batch]:
        """Return at most `limit` batches, newest first; an empty `model` means every model.

        `unresolved`: only batches that nothing but `retry` moves on. Raises NotFound.
        """

        def work(cursor: Cursor) -> list[Batch]:
            if model:
                check_model_exists(cursor, model)
            values = {"model": model, "limit": limit, "unresolved": unresolved}
            cursor.execute(QUERIES["find_batches"], values)
            return [batch_of(row) for row in cursor.fetchall()]

        return await self._database.run(work, "listing batches")


def _newest_ended_badly(cursor: Cursor, model: str) -> str:
    cursor.execute(QUERIES["last_ended_badly"], {"model": model})
    row = cursor.fetchone()
    if row is None:
        raise FailedPrecondition(f"no batch of {model} has failed or was refused")
    name: str = row[0]
    return name


def _why_not_sent_again(cursor: Cursor, model: str, name: str) -> MeshError:
    cursor.execute(QUERIES["find_batch_state"], {"model": model, "id": name})
    row = cursor.fetchone()
    if row is None:
        return NotFound(f"{model} has no batch {name!r}")
    return FailedPrecondition(
        f"batch {name} is {row[0].lower()}: only one that failed or was refused is sent again"
    )
