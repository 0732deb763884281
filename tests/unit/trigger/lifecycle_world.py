"""A store and an Airflow in memory and a clock that the test turns, for the life of batches."""

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from trigger_svc.batches.batch import Batch, BatchReason, BatchState, OpenBatch, batch_id
from trigger_svc.batches.sealing import ModelWork, SealPolicy, Waiting
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.bridge.batch_lifecycle import BatchLifecycle

POLICY = SealPolicy(rows=100, quiet_s=2.0, age_s=60.0)
FIRST = batch_id("reviews", 1)


class MemoryStore:
    """A BatchStore with one model, "reviews"."""

    def __init__(self) -> None:
        self.waiting: Waiting | None = None
        self.batches: dict[str, OpenBatch] = {}
        self.ends: dict[str, tuple[BatchState, str]] = {}
        self.deferrals: list[str] = []
        self.locked = False
        self.seal_error: Exception | None = None
        self.troubles: dict[str, dict[str, str]] = {}

    def add_batch(self, number: int, state: BatchState = BatchState.SEALED, key: str = "") -> None:
        name = batch_id("reviews", number)
        self.batches[name] = OpenBatch(name, "reviews", 5, BatchReason.MANUAL, state, key)

    async def scan(self) -> list[ModelWork]:
        first = next(iter(self.batches.values()), None)
        if self.waiting is None and first is None:
            return []
        return [ModelWork("reviews", POLICY, self.waiting, first)]

    async def seal(self, model: str, reason: BatchReason) -> Batch | None:
        if self.seal_error is not None:
            raise self.seal_error
        if self.locked:
            return None
        assert self.waiting is not None
        rows, self.waiting = self.waiting.rows, None
        self.add_batch(len(self.batches) + len(self.ends) + 1)
        name = next(reversed(self.batches))
        return Batch(name, model, rows, reason, BatchState.SEALED, datetime.now(UTC))

    async def replace(self, batch: str, model: str, skip: int, error: str) -> None:
        number = int(batch.rpartition("__")[2]) + skip
        self.ends[batch] = (BatchState.FAILED, error.format(batch=batch_id(model, number)))
        key = self.batches.pop(batch).key
        self.add_batch(number, key=key)

    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None:
        self.troubles[kind] = dict(troubles)

    async def mark_accepted(self, batch: str) -> None:
        self.batches[batch] = replace(self.batches[batch], state=BatchState.RUNNING)

    async def mark_deferred(self, batch: str, error: str) -> None:
        self.deferrals.append(error)

    async def mark_refused(self, batch: str, error: str) -> None:
        self.ends[batch] = (BatchState.DEAD, error)
        del self.batches[batch]

    async def mark_ended(self, batch: str, state: BatchState, error: str) -> None:
        self.ends[batch] = (state, error)
        del self.batches[batch]


class World:
    """The lifecycle with its store, its Airflow and its clock."""

    def __init__(self) -> None:
        self.store, self.airflow, self.now = MemoryStore(), MemoryAirflow(), 0.0
        self.lifecycle = BatchLifecycle(
            self.store, self.airflow, lambda: self.now, random.Random(1)
        )

    async def turns(self, seconds: float) -> None:
        """Take every turn that is due within the next `seconds` of the clock."""
        end = self.now + seconds
        while self.now <= end:
            turn = await self.lifecycle.turn()
            self.now += max(turn.due_in, 0.001)
        self.now = end
