"""The training rows of the models: adding, importing, deleting and counting them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database, Timeouts
from service_kit.errors import InvalidArgument
from trigger_svc.batches.batch import Batch, BatchReason
from trigger_svc.batches.batch_sql import read_batch, seal_waiting_rows, waiting_rows
from trigger_svc.database.queries import QUERIES, of_model, one_row
from trigger_svc.database.timeouts import CALLER, IMPORT, WHOLE_TABLE
from trigger_svc.dataset.answered_requests import Answer, answer_once
from trigger_svc.dataset.examples import Example, Spool, check_example, check_texts_to_delete
from trigger_svc.dataset.model_gate import ModelGate
from trigger_svc.dataset.model_tables import check_model_exists, ensure_model_table, forget_model
from trigger_svc.dataset.staged_rows import (
    SplitCounts,
    insert_staged,
    stage_examples,
    stage_spool,
    told_errors,
)

T = TypeVar("T")

# A table of at most so many bytes is counted; of a larger one, so many blocks are sampled.
COUNTED_BYTES = 128 * 1024**2
SAMPLED_BLOCKS = 4_000

API_SOURCE = "api"
IMPORT_SOURCE = "import"


@dataclass(frozen=True)
class ImportResult:
    """The result of an import; `batch` is None when none was sealed."""

    rows: SplitCounts
    batch: Batch | None
    created: bool


@dataclass(frozen=True)
class DatasetCounts:
    """The numbers of rows of a model; `labels` has every label, ordered by label."""

    rows: SplitCounts
    labels: dict[str, SplitCounts]
    pending_rows: int
    last_batch_id: str
    estimated: bool
    unbatched_rows: int


class TrainingRows:
    """Every method raises Unavailable when PostgreSQL is away or the model's table is locked.

    Imports, which may take long, have connections of their own.
    """

    def __init__(self, database: Database, imports: Database, gate: ModelGate) -> None:
        self._database = database
        self._imports = imports
        self._gate = gate
        # Imports of one model follow one another, since each locks the model's row at its end.
        self._import_gate = ModelGate(at_once=1, waiting=16, wait_s=IMPORT.statement_ms / 1_000)

    async def add(self, model: str, examples: list[Example], request_id: str) -> int:
        """Add rows to an existing model, all or none; return how many.

        Raises NotFound, InvalidArgument, AlreadyExists.
        """
        if not examples:
            raise InvalidArgument("examples", "is empty")
        for index, example in enumerate(examples):
            check_example(example, index)

        def work(cursor: Cursor) -> int:
            check_model_exists(cursor, model)

            def add() -> Answer:
                stage_examples(cursor, examples)
                rows_added, _ = insert_staged(cursor, model, API_SOURCE)
                return {"added": rows_added.train + rows_added.test}

            return int(answer_once(cursor, request_id, "AddExamples", model, add)["added"])

        return await self._run(model, work, f"adding rows to {model}", WHOLE_TABLE)

    async def delete(self, model: str, texts: Sequence[str], request_id: str) -> int:
        """Delete every row with one of these texts, all or none; return how many rows.

        Raises NotFound, InvalidArgument, FailedPrecondition, AlreadyExists.
        """
        check_texts_to_delete(texts)

        def work(cursor: Cursor) -> int:
            check_model_exists(cursor, model)

            def delete() -> Answer:
                cursor.execute(of_model("delete_rows", model), {"texts": list(texts)})
                return {"deleted": cursor.rowcount}

            answer = answer_once(cursor, request_id, "DeleteExamples", model, delete)
            return int(answer["deleted"])

        return await self._run(model, work, f"deleting rows of {model}", WHOLE_TABLE)

    async def forget(self, model: str, with_rows: bool) -> tuple[bool, bool]:
        """End the model; return whether it was known, and whether its table was dropped.

        Raises FailedPrecondition.
        """

        def work(cursor: Cursor) -> tuple[bool, bool]:
            return forget_model(cursor, model, with_rows)

        return await self._run(model, work, f"removing {model}", CALLER)

    async def import_spool(
        self, model: str, spool: Spool, source: str, request_id: str, train: bool
    ) -> ImportResult:
        """Import rows in one transaction, making the model when it is new.

        With `train` one batch is sealed; without it, these rows start no training by themselves.
        Raises InvalidArgument, FailedPrecondition, AlreadyExists.
        """
        if not spool.count:
            raise InvalidArgument("examples", "is empty: there is nothing to import")

        def work(cursor: Cursor) -> ImportResult:
            def load() -> Answer:
                created = ensure_model_table(cursor, model)
                stage_spool(cursor, model, spool)
                rows, ids = insert_staged(cursor, model, source or IMPORT_SOURCE)
                answer = {"train": rows.train, "test": rows.test, "created": created, "batch": ""}
                if train:
                    batch = seal_waiting_rows(cursor, model, BatchReason.IMPORT, request_id)
                    assert batch is not None
                    return answer | {"batch": batch.id}
                cursor.execute(QUERIES["take_without_batch"], {"model": model, "ids": ids})
                cursor.execute(QUERIES["cover"], {"model": model, "ids": ids})
                return answer

            answer = answer_once(cursor, request_id, "ImportExamples", model, load)
            return ImportResult(
                rows=SplitCounts(answer["train"], answer["test"]),
                batch=read_batch(cursor, answer["batch"]) if answer["batch"] else None,
                created=answer["created"],
            )

        async with self._import_gate.enter(model):
            with told_errors(model):
                return await self._imports.run(work, f"the import into {model}", IMPORT)

    async def counts(self, model: str) -> DatasetCounts:
        """Count the rows of a model. Raises NotFound."""

        def work(cursor: Cursor) -> DatasetCounts:
            check_model_exists(cursor, model)
            labels, estimated = _count_labels(cursor, model)
            waiting = waiting_rows(cursor, model)
            cursor.execute(QUERIES["last_batch"], {"model": model})
            last = cursor.fetchone()
            total = SplitCounts(
                sum(rows.train for rows in labels.values()),
                sum(rows.test for rows in labels.values()),
            )
            return DatasetCounts(
                rows=total,
                labels=labels,
                pending_rows=waiting.rows,
                last_batch_id=last[0] if last else "",
                estimated=estimated,
                unbatched_rows=waiting.unbatched,
            )

        return await self._run(model, work, f"counting the rows of {model}", CALLER)

    async def _run(
        self, model: str, work: Callable[[Cursor], T], action: str, timeouts: Timeouts
    ) -> T:
        async with self._gate.enter(model):
            with told_errors(model):
                return await self._database.run(work, action, timeouts)


def _count_labels(cursor: Cursor, model: str) -> tuple[dict[str, SplitCounts], bool]:
    """Return the rows of each label, and whether they are estimated from a sample of blocks."""
    cursor.execute(QUERIES["table_size"], {"model": model})
    size, blocks = one_row(cursor)
    share = 1.0
    if size <= COUNTED_BYTES:
        cursor.execute(of_model("count_labels", model))
    else:
        share = min(SAMPLED_BLOCKS / blocks, 1.0)
        cursor.execute(of_model("estimate_labels", model), {"percent": 100 * share})
    labels = {
        label: SplitCounts(round(train / share), round(test / share))
        for label, train, test in cursor.fetchall()
    }
    return labels, size > COUNTED_BYTES
