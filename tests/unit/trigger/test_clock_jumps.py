"""The life of batches while the database's clock is set forward and back, by up to an hour.

That clock times waiting rows, as in `batches.sql`. The bridge has a clock of its own too, which
nobody sets, but it forgets how long rows have waited when it is started again.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trigger_svc.batches.batch import Batch, BatchReason, BatchState
from trigger_svc.batches.sealing import ModelWork, SealPolicy, Waiting
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.bridge.batch_lifecycle import LOOK_S, BatchLifecycle

POLICY = SealPolicy(rows=1_000, quiet_s=2.0, age_s=20.0)
HOUR_S = 3_600.0
# The next look sees a change; the look after it seals the rows that are due then.
LATE_S = 2 * LOOK_S


@dataclass
class Entry:
    """An entry of the outbox: its rows, and its time by the database's and by the true clock."""

    rows: int
    created_at: float
    came_at: float


@dataclass
class WallClockStore:
    """A BatchStore with one model, whose batches end as soon as they are posted."""

    wall: float = 0.0
    outbox: list[Entry] = field(default_factory=list)
    sealed: list[tuple[BatchReason, list[Entry]]] = field(default_factory=list)

    async def scan(self) -> list[ModelWork]:
        if not self.outbox:
            return []
        created = [entry.created_at for entry in self.outbox]
        # Never below 0, as in PostgresBatches.
        oldest_s, newest_s = (max(self.wall - at, 0.0) for at in (min(created), max(created)))
        waiting = Waiting(sum(entry.rows for entry in self.outbox), oldest_s, newest_s)
        return [ModelWork("reviews", POLICY, waiting, None)]

    async def seal(self, model: str, reason: BatchReason) -> Batch:
        self.sealed.append((reason, self.outbox))
        rows, self.outbox = sum(entry.rows for entry in self.outbox), []
        name = f"retrain__{model}__{len(self.sealed)}"
        return Batch(name, model, rows, reason, BatchState.SEALED, datetime.now(UTC))

    async def replace(self, batch: str, model: str, skip: int, error: str) -> None: ...
    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None: ...
    async def mark_accepted(self, batch: str) -> None: ...
    async def mark_deferred(self, batch: str, error: str) -> None: ...
    async def mark_refused(self, batch: str, error: str) -> None: ...
    async def mark_ended(self, batch: str, state: BatchState, error: str) -> None: ...


class JumpingClock(RuleBasedStateMachine):
    """Rows come, time passes, the database's clock jumps, the bridge is started again."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store, self.airflow = WallClockStore(), MemoryAirflow()
        self.now = self.started_at = self.forward_at = 0.0
        self.inserted = 0
        self.lifecycle = self.new_lifecycle()

    def teardown(self) -> None:
        self.runner.close()

    def new_lifecycle(self) -> BatchLifecycle:
        return BatchLifecycle(self.store, self.airflow, lambda: self.now, random.Random(1))

    @rule()
    def start_the_bridge_again(self) -> None:
        self.lifecycle, self.started_at = self.new_lifecycle(), self.now

    @rule(rows=st.integers(1, 100))
    def insert(self, rows: int) -> None:
        self.store.outbox.append(Entry(rows, self.store.wall, self.now))
        self.inserted += rows

    @rule(seconds=st.floats(0.1, 30.0))
    def go_by(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < end:
            pause = min(self.turn(), LOOK_S, end - self.now)
            self.now += max(pause, 0.01)
            self.store.wall += max(pause, 0.01)
        self.turn()

    @rule(seconds=st.floats(1.0, HOUR_S))
    def set_back(self, seconds: float) -> None:
        self.store.wall -= seconds

    @rule(seconds=st.floats(1.0, HOUR_S))
    def set_forward(self, seconds: float) -> None:
        self.store.wall += seconds
        self.forward_at = self.now

    def turn(self) -> float:
        sealed = len(self.store.sealed)
        due_in = self.runner.run(self.lifecycle.turn()).due_in
        for reason, entries in self.store.sealed[sealed:]:
            self.check_due(reason, entries)
        return due_in

    def check_due(self, reason: BatchReason, entries: list[Entry]) -> None:
        """No batch is sealed before its time, unless the clock was set forward meanwhile."""
        first, last = entries[0].came_at, entries[-1].came_at
        if reason is not BatchReason.COUNT and self.forward_at < first:
            waited = self.now - (first if reason is BatchReason.AGE else last)
            limit = POLICY.age_s if reason is BatchReason.AGE else POLICY.quiet_s
            assert waited > limit - 1e-3, (reason, waited)

    @invariant()
    def no_rows_are_lost_or_doubled(self) -> None:
        taken = [entry for _, entries in self.store.sealed for entry in entries]
        assert sum(entry.rows for entry in [*taken, *self.store.outbox]) == self.inserted
        assert len(self.airflow.posts) == len(set(self.airflow.posts)) == len(self.store.sealed)

    @invariant()
    def no_rows_wait_longer_than_their_limits(self) -> None:
        if self.store.outbox:
            first, last = self.store.outbox[0].came_at, self.store.outbox[-1].came_at
            assert self.now - max(last, self.started_at) < POLICY.quiet_s + LATE_S
            assert self.now - max(first, self.started_at) < POLICY.age_s + LATE_S


TestJumpingClock = JumpingClock.TestCase
