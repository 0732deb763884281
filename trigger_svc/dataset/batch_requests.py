"""What callers ask about batches: to seal one now, to send one again, to list them."""

from dataclasses import dataclass
from datetime import datetime

from psycopg2.extensions import cursor as Cursor

from service_kit.callers.caller import ANYBODY, Caller
from service_kit.database import Database
from service_kit.errors import FailedPrecondition, InvalidArgument, MeshError, NotFound
from service_kit.page_tokens import decode_page_token, encode_page_token
from trigger_svc.batches.batch import Batch, BatchReason
from trigger_svc.batches.batch_sql import batch_of, read_batch, seal_waiting_rows
from trigger_svc.database.queries import QUERIES
from trigger_svc.database.timeouts import CALLER
from trigger_svc.dataset.answered_requests import Answer, answer_once
from trigger_svc.dataset.model_gate import ModelGate
from trigger_svc.dataset.model_tables import check_model_exists, check_model_is_known
from trigger_svc.dataset.staged_rows import told_errors


@dataclass(frozen=True)
class Trouble:
    """Why the rows of a model do not get on, and since when."""

    model: str
    message: str
    since: datetime


@dataclass(frozen=True)
class BatchPage:
    """Batches, newest first; `next_page_token` is empty on the last page."""

    batches: list[Batch]
    next_page_token: str


class BatchRequests:
    """Every method raises Unavailable when PostgreSQL is away or the model's table is locked."""

    def __init__(self, database: Database, gate: ModelGate) -> None:
        self._database = database
        self._gate = gate

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

        async with self._gate.enter(model):
            with told_errors(model):
                return await self._database.run(work, f"sealing a batch of {model}", CALLER)

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

        async with self._gate.enter(model):
            return await self._database.run(work, f"sending a batch of {model} again", CALLER)

    async def page(
        self,
        model: str,
        size: int,
        token: str,
        unresolved: bool = False,
        caller: Caller = ANYBODY,
    ) -> BatchPage:
        """Return a page of at most `size` batches; an empty `model` means every model of `caller`.

        `unresolved`: only batches that nothing but `retry` moves on. A page begins after a batch,
        not at a count, so batches that are sealed meanwhile shift nothing. Raises NotFound,
        InvalidArgument.
        """
        query = f"ListBatches {model} {unresolved}"
        position = _position(decode_page_token(token, query))
        values = {"model": model, "limit": size + 1, "unresolved": unresolved, **position}
        values["may"] = caller.like_patterns

        def work(cursor: Cursor) -> BatchPage:
            if model:
                check_model_is_known(cursor, model)
            cursor.execute(QUERIES["find_batches"], values)
            batches = [batch_of(row) for row in cursor.fetchall()]
            more = len(batches) > size
            last = batches[size - 1] if more else None
            position = f"{last.sealed_at.isoformat()} {last.number} {last.model}" if last else ""
            next_token = encode_page_token(query, position) if position else ""
            return BatchPage(batches[:size], next_token)

        return await self._database.run(work, "listing batches", CALLER)

    async def troubles(self, model: str, caller: Caller = ANYBODY) -> list[Trouble]:
        """Return what keeps rows from getting on; an empty `model` means every one of `caller`."""

        def work(cursor: Cursor) -> list[Trouble]:
            values = {"model": model, "may": caller.like_patterns}
            cursor.execute(QUERIES["find_troubles"], values)
            return [Trouble(*row) for row in cursor.fetchall()]

        return await self._database.run(work, "listing troubles", CALLER)


def _position(text: str) -> dict[str, object]:
    if not text:
        return {"sealed_at": None, "number": None, "after": None}
    try:
        moment, number, model = text.split(" ")
        return {"sealed_at": datetime.fromisoformat(moment), "number": int(number), "after": model}
    except ValueError:
        raise InvalidArgument("page_token", "is not a token of this list") from None


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
