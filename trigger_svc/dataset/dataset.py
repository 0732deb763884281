"""The rows of the models: adding, importing, counting; and batches on demand."""

from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import FailedPrecondition, InvalidArgument, MeshError, NotFound
from trigger_svc.batches.batch import Batch, BatchReason
from trigger_svc.batches.batch_store import count_rows, find_batch, seal, to_batch
from trigger_svc.database.queries import QUERIES, model_table, of_model
from trigger_svc.dataset.answered_requests import Answer, once
from trigger_svc.dataset.examples import Example, Spool, check_example

API_SOURCE = "api"
IMPORT_SOURCE = "import"
_TRIGGERS = 4  # in model.sql


@dataclass(frozen=True)
class Rows:
    """Rows by split."""

    train: int
    test: int


@dataclass(frozen=True)
class Imported:
    """What an import did; `batch` is None when none was sealed."""

    rows: Rows
    batch: Batch | None
    created: bool


@dataclass(frozen=True)
class Counts:
    """The rows of a model; `labels` has every label with its rows, ordered by label."""

    rows: Rows
    labels: dict[str, Rows]
    pending_rows: int
    last_batch_id: str


class Dataset:
    """Every method raises Unavailable when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, model: str, examples: list[Example], request_id: str) -> int:
        """Add rows to a known model, all or none; return how many.

        Raises NotFound, InvalidArgument, AlreadyExists.
        """
        if not examples:
            raise InvalidArgument("examples", "is empty")
        for index, example in enumerate(examples):
            check_example(example, index)

        def work(cursor: Cursor) -> int:
            _check_known(cursor, model)

            def add() -> Answer:
                cursor.execute(QUERIES["create_staged"])
                columns = {
                    "texts": [example.text for example in examples],
                    "labels": [example.label for example in examples],
                    "splits": [example.split for example in examples],
                }
                cursor.execute(QUERIES["fill_staged"], columns)
                cursor.execute(QUERIES["default_split"])
                rows_added, _ = _insert(cursor, model, API_SOURCE)
                return {"added": rows_added.train + rows_added.test}

            return int(once(cursor, request_id, "AddExamples", model, add)["added"])

        return await self._database.run(work)

    async def import_spool(
        self, model: str, spool: Spool, source: str, request_id: str, train: bool
    ) -> Imported:
        """Import rows in one transaction, making the model when it is new.

        With `train` one batch is sealed; without it, these rows start no training by themselves.
        Raises InvalidArgument, FailedPrecondition, AlreadyExists.
        """
        if not spool.count:
            raise InvalidArgument("examples", "is empty: there is nothing to import")

        def work(cursor: Cursor) -> Imported:
            def load() -> Answer:
                created = _ensure_model(cursor, model)
                _stage(cursor, model, spool)
                rows, ids = _insert(cursor, model, source or IMPORT_SOURCE)
                answer = {"train": rows.train, "test": rows.test, "created": created, "batch": ""}
                if train:
                    batch = seal(cursor, model, BatchReason.IMPORT, request_id)
                    assert batch is not None
                    return answer | {"batch": batch.id}
                cursor.execute(QUERIES["take_without_batch"], {"model": model, "ids": ids})
                return answer

            try:
                answer = once(cursor, request_id, "ImportExamples", model, load)
            except (psycopg2.errors.UndefinedColumn, psycopg2.errors.WrongObjectType) as error:
                raise FailedPrecondition(
                    f"training.{model} is there, but it is no training table of the mesh:"
                    f" {error.diag.message_primary}"
                ) from error
            return Imported(
                rows=Rows(answer["train"], answer["test"]),
                batch=find_batch(cursor, answer["batch"]) if answer["batch"] else None,
                created=answer["created"],
            )

        return await self._database.run(work)

    async def counts(self, model: str) -> Counts:
        """Count the rows of a model. Raises NotFound."""

        def work(cursor: Cursor) -> Counts:
            _check_known(cursor, model)
            cursor.execute(of_model("count_labels", model))
            labels = {label: Rows(train, test) for label, train, test in cursor.fetchall()}
            cursor.execute(QUERIES["waiting_ids"], {"model": model})
            pending = count_rows(cursor, model, _row(cursor)[0])
            cursor.execute(QUERIES["last_batch"], {"model": model})
            last = cursor.fetchone()
            total = Rows(
                sum(rows.train for rows in labels.values()),
                sum(rows.test for rows in labels.values()),
            )
            return Counts(total, labels, pending, last[0] if last else "")

        return await self._database.run(work)

    async def trigger(self, model: str, request_id: str) -> Batch:
        """Seal a batch now, with whatever rows wait. Raises NotFound, AlreadyExists."""

        def work(cursor: Cursor) -> Batch:
            _check_known(cursor, model)

            def seal_now() -> Answer:
                batch = seal(cursor, model, BatchReason.MANUAL, request_id)
                assert batch is not None
                return {"batch": batch.id}

            return find_batch(cursor, once(cursor, request_id, "Trigger", model, seal_now)["batch"])

        return await self._database.run(work)

    async def retry(self, model: str, batch: str, request_id: str) -> Batch:
        """Send a batch again that failed or was refused; empty: the model's newest of those.

        Raises NotFound, FailedPrecondition, AlreadyExists.
        """

        def work(cursor: Cursor) -> Batch:
            _check_known(cursor, model)

            def send_again() -> Answer:
                # As for sealing, so that batches queue up in the order in which they are committed.
                cursor.execute(QUERIES["lock_model"], {"model": model})
                name = batch or _last_ended_badly(cursor, model)
                cursor.execute(QUERIES["send_again"], {"id": name, "model": model})
                if not cursor.rowcount:
                    raise _not_to_be_sent(cursor, model, name)
                cursor.execute(QUERIES["wake_bridge"])
                return {"batch": name}

            answer = once(cursor, request_id, "Retry", model, send_again)
            return find_batch(cursor, answer["batch"])

        return await self._database.run(work)

    async def batches(self, model: str, limit: int, unresolved: bool = False) -> list[Batch]:
        """Return the newest batches of a model, newest first; of every model when it is empty.

        `unresolved`: only those that nothing but `retry` moves on. Raises NotFound.
        """

        def work(cursor: Cursor) -> list[Batch]:
            if model:
                _check_known(cursor, model)
            values = {"model": model, "limit": limit, "unresolved": unresolved}
            cursor.execute(QUERIES["find_batches"], values)
            return [to_batch(row) for row in cursor.fetchall()]

        return await self._database.run(work)


def _check_known(cursor: Cursor, model: str) -> None:
    cursor.execute(QUERIES["has_model"], {"model": model})
    if not _row(cursor)[0]:
        raise NotFound(f"no model {model!r}: import rows first: mesh import {model} FILE.csv")


def _last_ended_badly(cursor: Cursor, model: str) -> str:
    cursor.execute(QUERIES["last_ended_badly"], {"model": model})
    row = cursor.fetchone()
    if row is None:
        raise FailedPrecondition(f"no batch of {model} has failed or was refused")
    name: str = row[0]
    return name


def _not_to_be_sent(cursor: Cursor, model: str, name: str) -> MeshError:
    cursor.execute(QUERIES["find_batch_state"], {"model": model, "id": name})
    row = cursor.fetchone()
    if row is None:
        return NotFound(f"{model} has no batch {name!r}")
    return FailedPrecondition(
        f"batch {name} is {row[0].lower()}: only one that failed or was refused is sent again"
    )


def _ensure_model(cursor: Cursor, model: str) -> bool:
    """Make the model's table and triggers unless they are there; return whether it is new."""
    cursor.execute(QUERIES["create_model"], {"model": model})
    cursor.execute(QUERIES["has_table"], {"model": model})
    created = not _row(cursor)[0]
    cursor.execute(QUERIES["installed_triggers"], {"model": model})
    if _row(cursor)[0] < _TRIGGERS:
        # Only then: it takes a lock that INSERTs would wait for.
        cursor.execute(model_table(model))
    return created


def _stage(cursor: Cursor, model: str, spool: Spool) -> None:
    cursor.execute(QUERIES["create_staged"])
    cursor.copy_expert(QUERIES["copy_staged"], spool.rewound())
    cursor.execute(QUERIES["staged_names_split"])
    if _row(cursor)[0]:
        cursor.execute(QUERIES["default_split"])
    else:
        cursor.execute(of_model("hold_out", model))


def _insert(cursor: Cursor, model: str, source: str) -> tuple[Rows, str]:
    """Insert the staged rows; return them by split, and their ids (an int8multirange)."""
    cursor.execute(of_model("untrained_label", model))
    row = cursor.fetchone()
    if row is not None:
        raise InvalidArgument(
            f"examples[{row[0]}].label",
            f"{row[1]!r} is in the test split, but no row to train on has it",
        )
    cursor.execute(of_model("insert_staged", model), {"source": source})
    train, test, ids = _row(cursor)
    return Rows(train, test), ids


def _row(cursor: Cursor) -> tuple[Any, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
