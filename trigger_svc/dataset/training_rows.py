"""The training rows of the models: adding, importing and counting them."""

from dataclasses import dataclass

import psycopg2
from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import FailedPrecondition, InvalidArgument
from trigger_svc.batches.batch import Batch, BatchReason
from trigger_svc.batches.batch_sql import count_training_rows, read_batch, seal_waiting_rows
from trigger_svc.database.queries import QUERIES, of_model, one_row
from trigger_svc.database.timeouts import IMPORT, WHOLE_TABLE
from trigger_svc.dataset.answered_requests import Answer, answer_once
from trigger_svc.dataset.examples import Example, Spool, check_example
from trigger_svc.dataset.model_tables import check_model_exists, ensure_model_table

API_SOURCE = "api"
IMPORT_SOURCE = "import"


@dataclass(frozen=True)
class SplitCounts:
    """Numbers of rows by split."""

    train: int
    test: int


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


class TrainingRows:
    """Every method raises Unavailable when PostgreSQL is away."""

    def __init__(self, database: Database) -> None:
        self._database = database

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
                cursor.execute(QUERIES["create_staged"])
                columns = {
                    "texts": [example.text for example in examples],
                    "labels": [example.label for example in examples],
                    "splits": [example.split for example in examples],
                }
                cursor.execute(QUERIES["fill_staged"], columns)
                cursor.execute(QUERIES["default_split"])
                rows_added, _ = _insert_staged(cursor, model, API_SOURCE)
                return {"added": rows_added.train + rows_added.test}

            return int(answer_once(cursor, request_id, "AddExamples", model, add)["added"])

        return await self._database.run(work, f"adding rows to {model}", WHOLE_TABLE)

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
                _stage(cursor, model, spool)
                rows, ids = _insert_staged(cursor, model, source or IMPORT_SOURCE)
                answer = {"train": rows.train, "test": rows.test, "created": created, "batch": ""}
                if train:
                    batch = seal_waiting_rows(cursor, model, BatchReason.IMPORT, request_id)
                    assert batch is not None
                    return answer | {"batch": batch.id}
                cursor.execute(QUERIES["take_without_batch"], {"model": model, "ids": ids})
                return answer

            try:
                answer = answer_once(cursor, request_id, "ImportExamples", model, load)
            except (psycopg2.errors.UndefinedColumn, psycopg2.errors.WrongObjectType) as error:
                raise FailedPrecondition(
                    f"training.{model} exists, but it is no training table of the mesh:"
                    f" {error.diag.message_primary}"
                ) from error
            return ImportResult(
                rows=SplitCounts(answer["train"], answer["test"]),
                batch=read_batch(cursor, answer["batch"]) if answer["batch"] else None,
                created=answer["created"],
            )

        return await self._database.run(work, f"the import into {model}", IMPORT)

    async def counts(self, model: str) -> DatasetCounts:
        """Count the rows of a model. Raises NotFound."""

        def work(cursor: Cursor) -> DatasetCounts:
            check_model_exists(cursor, model)
            cursor.execute(of_model("count_labels", model))
            labels = {label: SplitCounts(train, test) for label, train, test in cursor.fetchall()}
            cursor.execute(QUERIES["waiting_ids"], {"model": model})
            pending = count_training_rows(cursor, model, one_row(cursor)[0])
            cursor.execute(QUERIES["last_batch"], {"model": model})
            last = cursor.fetchone()
            total = SplitCounts(
                sum(rows.train for rows in labels.values()),
                sum(rows.test for rows in labels.values()),
            )
            return DatasetCounts(total, labels, pending, last[0] if last else "")

        return await self._database.run(work, f"counting the rows of {model}", WHOLE_TABLE)


def _stage(cursor: Cursor, model: str, spool: Spool) -> None:
    cursor.execute(QUERIES["create_staged"])
    cursor.copy_expert(QUERIES["copy_staged"], spool.rewound())
    cursor.execute(QUERIES["staged_names_split"])
    if one_row(cursor) == (True,):
        cursor.execute(QUERIES["default_split"])
    else:
        cursor.execute(of_model("hold_out", model))


def _insert_staged(cursor: Cursor, model: str, source: str) -> tuple[SplitCounts, str]:
    """Insert the staged rows; return their counts by split and their ids (an int8multirange)."""
    cursor.execute(of_model("untrained_label", model))
    row = cursor.fetchone()
    if row is not None:
        raise InvalidArgument(
            f"examples[{row[0]}].label",
            f"{row[1]!r} is in the test split, but no row to train on has it",
        )
    cursor.execute(of_model("insert_staged", model), {"source": source})
    train, test, ids = one_row(cursor)
    return SplitCounts(train, test), ids
