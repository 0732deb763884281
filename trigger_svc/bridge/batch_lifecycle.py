"""The life of a batch: its rows are sealed, its DAG run is posted, the run is followed to its end.

A batch is SEALED → RUNNING → SUCCEEDED or FAILED, or SEALED → DEAD. A batch that is FAILED or DEAD
becomes SEALED again when a caller asks for Retry. A model has at most one RUNNING batch, and the
bridge seals none for it while one is SEALED or RUNNING. All state is in PostgreSQL, so when a
bridge dies, the next one continues where it was.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from prometheus_client import Counter

from service_kit.errors import Unavailable
from trigger_svc.batches.batch import Batch, BatchReason, BatchState, OpenBatch
from trigger_svc.batches.sealing import ModelWork, Waiting, seal_due_in, seal_reason
from trigger_svc.bridge.airflow import Airflow, Refused, Run, RunState
from trigger_svc.bridge.backoff import backoff_s

log = logging.getLogger(__name__)

# Seconds between two turns while rows wait: meanwhile their writers do not wake the bridge.
LOOK_S = 0.25
# Seconds between two questions to Airflow about a run: this share of the run's age, so that an
# hour's run costs few questions, but within these bounds.
POLL_S = 1.0
LONGEST_POLL_S = 10.0
_POLL_SHARE = 0.05
IDLE_S = 3600.0

SEALED = Counter("mesh_batches_sealed", "Batches sealed by the bridge.", ("reason",))
POSTS = Counter("mesh_dag_run_posts", "Attempts to start a DAG run.", ("outcome",))


class BatchStore(Protocol):
    """The part of PostgresBatches that a turn uses; see there."""

    async def scan(self) -> list[ModelWork]: ...
    async def seal(self, model: str, reason: BatchReason) -> Batch | None: ...
    async def mark_accepted(self, batch: str) -> None: ...
    async def mark_deferred(self, batch: str, error: str) -> None: ...
    async def mark_refused(self, batch: str, error: str) -> None: ...
    async def mark_ended(self, batch: str, state: BatchState, error: str) -> None: ...


@dataclass(frozen=True)
class Turn:
    """The result of one turn."""

    due_in: float
    """Seconds until the next step is due."""
    rows_wait: bool
    """Whether rows still wait for their batch."""
    rows: int = 0
    """Rows that waited when the turn began."""
    scan_s: float = 0.0
    """Seconds that `BatchStore.scan` took."""


@dataclass
class _NextStep:
    """When the next step of an open batch is due, and how many attempts at it have failed."""

    at: float = 0.0
    failures: int = 0


@dataclass(frozen=True)
class _RowsWait:
    """How long rows have waited by the bridge's own clock, which nobody can set back."""

    rows: int
    begun_at: float
    changed_at: float

    def at_least(self, waiting: Waiting, now: float) -> Waiting:
        """Return `waiting` with times that are no shorter than those of this clock."""
        return Waiting(
            waiting.rows,
            max(waiting.oldest_s, now - self.begun_at),
            max(waiting.newest_s, now - self.changed_at),
        )


@dataclass
class BatchLifecycle:
    """Moves the batches of every model on, one turn after another; the caller waits in between."""

    store: BatchStore
    airflow: Airflow
    clock: Callable[[], float] = time.monotonic
    jitter: random.Random = field(default_factory=random.Random)
    _next_steps: dict[str, _NextStep] = field(default_factory=dict)
    _waits: dict[str, _RowsWait] = field(default_factory=dict)

    async def turn(self) -> Turn:
        """Seal the rows, post the runs and ask about the runs that are due now.

        Raises Unavailable when PostgreSQL is away, Superseded when another bridge leads.
        """
        begin = self.clock()
        works = await self.store.scan()
        scan_s = self.clock() - begin
        rows = sum(work.waiting.rows for work in works if work.waiting is not None)
        self._time_waiting(works)
        batches: list[OpenBatch] = []
        due_in = IDLE_S
        for work in works:
            if work.batch is not None:
                batches.append(work.batch)
            elif work.waiting is not None:
                waiting = self._waits[work.model].at_least(work.waiting, self.clock())
                reason = seal_reason(waiting, work.policy)
                if reason is None:
                    due_in = min(due_in, LOOK_S, seal_due_in(waiting, work.policy))
                elif (sealed := await self._seal(work.model, reason)) is not None:
                    batches.append(sealed)
                else:
                    due_in = min(due_in, LOOK_S)
        self._next_steps = {
            batch.id: self._next_steps.get(batch.id, _NextStep()) for batch in batches
        }
        dues = await wait_for_all(map(self._advance, batches))
        return Turn(min(due_in, *dues, IDLE_S), bool(self._waits), rows, scan_s)

    def _time_waiting(self, works: list[ModelWork]) -> None:
        now = self.clock()
        waits: dict[str, _RowsWait] = {}
        for work in works:
            if work.waiting is not None:
                rows = work.waiting.rows
                wait = self._waits.get(work.model)
                if wait is None or rows < wait.rows:
                    wait = _RowsWait(rows, now, now)
                elif rows > wait.rows:
                    wait = replace(wait, rows=rows, changed_at=now)
                waits[work.model] = wait
        self._waits = waits

    async def _seal(self, model: str, reason: BatchReason) -> OpenBatch | None:
        batch = await self.store.seal(model, reason)
        if batch is None:
            return None
        self._waits.pop(model, None)
        SEALED.labels(reason).inc()
        log.info("batch sealed", extra={"batch": batch.id, "rows": batch.rows, "reason": reason})
        return OpenBatch(batch.id, model, batch.rows, reason, batch.state)

    async def _advance(self, batch: OpenBatch) -> float:
        """Take the step of one open batch if it is due; return the seconds until the next step."""
        next_step = self._next_steps[batch.id]
        remaining = next_step.at - self.clock()
        if remaining > 0:
            return remaining
        step = self._post if batch.state is BatchState.SEALED else self._follow
        try:
            pause = await step(batch, next_step.failures)
            next_step.failures = 0
        except Unavailable as error:
            next_step.failures += 1
            pause = backoff_s(next_step.failures, self.jitter)
            await self._report_failure(batch, next_step.failures, str(error))
        next_step.at = self.clock() + pause
        return pause

    async def _post(self, batch: OpenBatch, failures: int) -> float:
        conf = {
            "model": batch.model,
            "batch_id": batch.id,
            "reason": str(batch.reason),
            "rows": batch.rows,
        }
        try:
            # An attempt that seemed to fail may have made the run, so the bridge asks Airflow
            # first: posting an id twice would leave an error in Airflow's log. A batch that a
            # caller retries has its run already, unless the run was deleted or never accepted.
            state = RunState.GONE
            if failures or batch.retries:
                state = await self.airflow.run_state(batch.id)
            if state is RunState.GONE:
                await self.airflow.start_run(Run(batch.id, conf))
            elif state is RunState.FAILED and batch.retries:
                await self.airflow.restart_run(batch.id)
        except Refused as refusal:
            POSTS.labels("refused").inc()
            log.error("batch refused", extra={"batch": batch.id, "why": str(refusal)})
            await self.store.mark_refused(batch.id, str(refusal))
            return 0.0
        await self.store.mark_accepted(batch.id)
        POSTS.labels("accepted").inc()
        log.info("run started", extra={"batch": batch.id})
        return POLL_S

    async def _follow(self, batch: OpenBatch, _failures: int) -> float:
        state = await self.airflow.run_state(batch.id)
        if state is RunState.ACTIVE:
            return min(max(POLL_S, batch.running_s * _POLL_SHARE), LONGEST_POLL_S)
        ended, error = _ENDS[state]
        await self.store.mark_ended(batch.id, ended, error)
        log.info("run ended", extra={"batch": batch.id, "state": ended, "error": error})
        return 0.0

    async def _report_failure(self, batch: OpenBatch, failures: int, error: str) -> None:
        if batch.state is BatchState.SEALED:
            POSTS.labels("deferred").inc()
            await self.store.mark_deferred(batch.id, error)
        if failures == 1:
            log.warning("batch waits for Airflow", extra={"batch": batch.id, "why": error})


async def wait_for_all(steps: Iterable[Awaitable[float]]) -> list[float]:
    """Return the results of all steps, which run side by side.

    When steps fail, the first error is raised only after every step has ended, so that no step
    is still at work when the next turn begins.
    """
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


_ENDS = {
    RunState.SUCCEEDED: (BatchState.SUCCEEDED, ""),
    RunState.FAILED: (BatchState.FAILED, "the run failed: see its log in Airflow"),
    RunState.GONE: (BatchState.FAILED, "the run was deleted in Airflow"),
}
