"""The outbox and the sealing in a real PostgreSQL, compared with a model of a few lines.

Two writers have open transactions with statements of every kind, and commit or roll back in any
order. In between rows are sealed; some seals are rolled back, as a crash would do.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg2.extensions import connection as Connection

from service_kit.database import Database, apply_schema
from tests.real_parts.trigger_service import query
from trigger_svc.batches.batch import BatchReason
from trigger_svc.batches.batch_sql import seal_waiting_rows
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

MODELS = ("left", "right")
EXAMPLES, STEPS = 20, 25
_models = st.sampled_from(MODELS)
_writers = st.integers(0, 1)
_counts = st.integers(0, 3)


@dataclass
class Writer:
    """An open transaction: its rows as it sees them, and its entries of the outbox so far."""

    connection: Connection
    rows: dict[tuple[str, int], str] = field(default_factory=dict)
    """Split by model and id, of this writer's own rows only: then no writer waits for the other."""
    committed: dict[tuple[str, int], str] = field(default_factory=dict)
    entries: list[tuple[str, int, frozenset[int]]] = field(default_factory=list)
    """The model, how many rows to train on were written, and their ids with those between them."""

    def own(self, model: str) -> list[int]:
        return sorted(row for name, row in self.rows if name == model)


class OutboxMachine(RuleBasedStateMachine):
    """The model: which entries the outbox has to hold, and which rows a seal has to take."""

    url = ""
    reader: Connection
    """In autocommit mode."""

    def __init__(self) -> None:
        super().__init__()
        with self.reader.cursor() as cursor:
            cursor.execute(
                "TRUNCATE mesh.batches, mesh.outbox, mesh.removals, training.left, training.right;"
                " UPDATE mesh.models SET next_batch = 1"
            )
        self.writers = [Writer(psycopg2.connect(self.url)) for _ in range(2)]
        self.sealer = psycopg2.connect(self.url)
        self.waiting: list[tuple[str, int, frozenset[int]]] = []
        self.batches: list[tuple[str, int, frozenset[int]]] = []

    def teardown(self) -> None:
        for connection in (*(writer.connection for writer in self.writers), self.sealer):
            connection.close()

    @rule(number=_writers, model=_models, train=_counts, test=_counts)
    def insert(self, number: int, model: str, train: int, test: int) -> None:
        writer = self.writers[number]
        with writer.connection.cursor() as cursor:
            cursor.execute(
                f"INSERT INTO training.{model} (text, label, split)"
                " SELECT 'x', 'a', CASE WHEN n <= %s THEN 'train' ELSE 'test' END"
                " FROM generate_series(1, %s) AS n RETURNING id, split",
                (train, train + test),
            )
            written = cursor.fetchall()
        writer.rows |= {(model, row): split for row, split in written}
        if train:
            writer.entries.append((model, train, between(row for row, _ in written)))

    @rule(number=_writers, model=_models, dice=st.randoms(use_true_random=False))
    def update(self, number: int, model: str, dice: Random) -> None:
        writer = self.writers[number]
        chosen = [row for row in writer.own(model) if dice.random() < 0.5]
        with writer.connection.cursor() as cursor:
            cursor.execute(
                f"UPDATE training.{model} SET text = text || '.' WHERE id = ANY(%s)", (chosen,)
            )
        trained = frozenset(row for row in chosen if writer.rows[model, row] == "train")
        if trained:
            writer.entries.append((model, len(trained), between(trained)))

    @rule(number=_writers, model=_models, dice=st.randoms(use_true_random=False))
    def delete(self, number: int, model: str, dice: Random) -> None:
        writer = self.writers[number]
        chosen = [row for row in writer.own(model) if dice.random() < 0.5]
        with writer.connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM training.{model} WHERE id = ANY(%s)", (chosen,))
        for row in chosen:
            del writer.rows[model, row]

    @rule(number=_writers)
    def commit(self, number: int) -> None:
        writer = self.writers[number]
        writer.connection.commit()
        self.waiting += writer.entries
        writer.committed, writer.entries = dict(writer.rows), []

    @rule(number=_writers)
    def roll_back(self, number: int) -> None:
        writer = self.writers[number]
        writer.connection.rollback()
        writer.rows, writer.entries = dict(writer.committed), []

    @precondition(lambda self: self.waiting)
    @rule(model=_models, crash=st.booleans())
    def seal(self, model: str, crash: bool) -> None:
        with self.sealer.cursor() as cursor:
            batch = seal_waiting_rows(cursor, model, BatchReason.QUIET)
        if crash:
            self.sealer.rollback()
            return
        self.sealer.commit()
        taken = [entry for entry in self.waiting if entry[0] == model]
        self.waiting = [entry for entry in self.waiting if entry[0] != model]
        ids = frozenset[int]().union(*(ids for _, _, ids in taken))
        written = sum(count for _, count, _ in taken)
        there = {
            row
            for writer in self.writers
            for (name, row), split in writer.committed.items()
            if name == model and split == "train"
        }
        # Rows that were deleted since do not count, and no row counts more often than written.
        assert (batch.rows if batch else 0) == min(len(ids & there), written)
        if batch:
            self.batches.append((model, len(taken), ids))

    def _read(self, sql: str) -> list[tuple[Any, ...]]:
        with self.reader.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    @invariant()
    def the_outbox_holds_the_entries_that_were_committed_and_not_sealed(self) -> None:
        rows = self._read(f"SELECT model, row_count, {_ids()} FROM mesh.outbox")
        entries = sorted((model, count, sorted(ids)) for model, count, ids in rows)
        assert entries == sorted((model, count, sorted(ids)) for model, count, ids in self.waiting)

    @invariant()
    def batches_hold_the_rows_that_were_sealed(self) -> None:
        rows = self._read(
            f"SELECT model, number, statements, {_ids()} FROM mesh.batches ORDER BY 1, 2"
        )
        expected = [
            (model, number, statements, ids)
            for model in MODELS
            for number, (_, statements, ids) in enumerate(
                (batch for batch in self.batches if batch[0] == model), 1
            )
        ]
        assert [(*head, frozenset(ids)) for *head, ids in rows] == expected


def between(ids: Iterable[int]) -> frozenset[int]:
    """Return the ids and all that lie between the lowest and the highest of them."""
    known = sorted(ids)
    return frozenset(range(known[0], known[-1] + 1))


def _ids() -> str:
    return "ARRAY(SELECT generate_series(lower(r), upper(r) - 1) FROM unnest(row_ids) AS r)"


@pytest.fixture
async def url(postgres_url: str) -> str:
    """A database with the tables of two models."""
    database = Database(postgres_url, "test", 1)
    await apply_schema(database, "trigger", *SCHEMA)
    for model in MODELS:
        table = model_table(model)
        await database.run(lambda cursor, table=table: cursor.execute(table))  # type: ignore[misc]
        query(postgres_url, "INSERT INTO mesh.models (name) VALUES (%s)", model)
    await database.close()
    return postgres_url


def test_a_seal_takes_the_committed_entries_and_nothing_else(url: str) -> None:
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    with closing(psycopg2.connect(url)) as reader:
        reader.autocommit = True
        machine = type("Machine", (OutboxMachine,), {"url": url, "reader": reader})
        run_state_machine_as_test(machine, settings=chosen)
