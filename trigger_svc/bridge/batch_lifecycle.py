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
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

import psycopg2
from prometheus_client import Counter

from service_kit.database import BrokenOff
from service_kit.errors import Unavailable
from trigger_svc.batches.batch import Batch, BatchReason, BatchState, OpenBatch
from trigger_svc.batches.sealing import ModelWork, Waiting, seal_due_in, seal_reason
from trigger_svc.bridge.airflow import KEY, Airflow, Foreign, Refused, Run, RunState
from trigger_svc.bridge.backoff import backoff_s
from trigger_svc.bridge.troubles import Troubles

log = logging.getLogger(__name__)

# Seconds between two turns while rows wait: meanwhile their writers do not wake the bridge.
LOOK_S = 0.25
# Seconds between two questions to Airflow about a run: this share of the run's age, so that an
# hour's run costs few questions, but within these bounds.
POLL_S = 1.0
LONGEST_POLL_S = 10.0
_POLL_SHARE = 0.05
IDLE_S = 3600.0
LONGEST_SKIP = 1_024  # numbers that one batch moves on at most

T = TypeVar("T")

SEALED = Counter("mesh_batches_sealed", "Batches sealed by the bridge.", ("reason",))
POSTS = Counter("mesh_dag_run_posts", "Attempts to start a DAG run.", ("outcome",))


class BatchStore(Protocol):
    """The part of PostgresBatches that a turn uses; see there."""

    async def scan(self) -> list[ModelWork]: ...
    async def seal(self, model: str, reason: BatchReason) -> Batch | None: ...
    async def replace(self, batch: str, model: str, skip: int, error: str) -> None: ...
    async def note_troubles(self, kind: str, troubles: Mapping[str, str]) -> None: ...
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
    _foreign: dict[str, int] = field(default_factory=dict)
    """The numbers to skip next, for models whose batches met runs of other batches."""

    def __post_init__(self) -> None:
        self.troubles = Troubles(self.store, self.airflow, self.clock, self.jitter)

    async def turn(self) -> Turn:
        """Seal the rows, post the runs and ask about the runs that are due now.

        Raises Unavailable when PostgreSQL is away, Superseded when another bridge leads.
        """
        begin = self.clock()
        works = await self.store.scan()
        scan_s = self.clock() - begin
        rows = sum(work.waiting.rows for work in works if work.waiting is not None)
        self._time_waiting(works)
        steps = await wait_for_all(map(self._open_batch, works))
        batches = [batch for batch, _ in steps if batch is not None]
        self._next_steps = {
            batch.id: self._next_steps.get(batch.id, _NextStep()) for batch in batches
        }
        await self.troubles.report_seals(work.model for work in works if work.batch is None)
        look = self.troubles.look_at_the_dag(batch.model for batch in batches)
        dues = await wait_for_all([*map(self._advance, batches), look])
        due_in = min((due for _, due in steps), default=IDLE_S)
        return Turn(min(due_in, *dues, IDLE_S), bool(self._waits), rows, scan_s)

    async def _open_batch(self, work: ModelWork) -> tuple[OpenBatch | None, float]:
        """Return the model's open batch, sealed now if that is due; or the seconds until it is."""
        if work.batch is not None or work.waiting is None:
            return work.batch, IDLE_S
        waiting = self._waits[work.model].at_least(work.waiting, self.clock())
        reason = seal_reason(waiting, work.policy)
        if reason is None:
            return None, min(LOOK_S, seal_due_in(waiting, work.policy))
        pause = self.troubles.pause_s(work.model)
        if pause > 0:
            return None, pause
        try:
            sealed = await self._seal(work.model, reason)
            self.troubles.seal_succeeded(work.model)
            return sealed, LOOK_S
        except (BrokenOff, psycopg2.Error) as error:
            return None, self.troubles.seal_failed(work.model, error)

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
        return OpenBatch(batch.id, model, batch.rows, reason, batch.state, batch.key)

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
            KEY: batch.key,
        }
        try:
            # An attempt that seemed to fail may have made the run, so the bridge asks Airflow
            # first: posting an id twice would leave an error in Airflow's log. A batch that a
            # caller retries has its run already, unless the run was deleted or never accepted.
            state = RunState.GONE
            if failures or batch.retries:
                state = await self.airflow.run_state(batch.id, batch.key)
            if state is RunState.GONE:
                await self.airflow.start_run(Run(batch.id, conf))
            elif state is RunState.FAILED and batch.retries:
                await self.airflow.restart_run(batch.id)
        except Foreign:
            await self._replace(batch)
            return 0.0
        except Refused as refusal:
            POSTS.labels("refused").inc()
            log.error("batch refused", extra={"batch": batch.id, "why": str(refusal)})
            await self.store.mark_refused(batch.id, str(refusal))
            return 0.0
        self._foreign.pop(batch.model, None)
        await self.store.mark_accepted(batch.id)
        POSTS.labels("accepted").inc()
        log.info("run started", extra={"batch": batch.id})
        return POLL_S

    async def _replace(self, batch: OpenBatch) -> None:
        """Let the rows of a batch start a run of their own where the batch's id is taken."""
        # Each time in a row the number moves on twice as far, so that many taken ids cost few runs.
        skip = self._foreign.get(batch.model, 1)
        self._foreign[batch.model] = min(2 * skip, LONGEST_SKIP)
        POSTS.labels("foreign").inc()
        log.warning("Airflow has another batch's run of this id", extra={"batch": batch.id})
        await self.store.replace(batch.id, batch.model, skip, _REPLACED)

    async def _follow(self, batch: OpenBatch, _failures: int) -> float:
        try:
            state = await self.airflow.run_state(batch.id, batch.key)
        except Foreign:
            state = RunState.GONE
        if state is RunState.ACTIVE:
            return min(max(POLL_S, batch.running_s * _POLL_SHARE), LONGEST_POLL_S)
        ended, error = _ENDS[state]
        if state is RunState.FAILED:
            error = _failure(await self.airflow.failed_tasks(batch.id))
        await self.store.mark_ended(batch.id, ended, error)
        log.info("run ended", extra={"batch": batch.id, "state": ended, "error": error})
        return 0.0

    async def _report_failure(self, batch: OpenBatch, failures: int, error: str) -> None:
        if batch.state is BatchState.SEALED:
            POSTS.labels("deferred").inc()
            await self.store.mark_deferred(batch.id, error)
        if failures == 1:
            log.warning("batch waits for Airflow", extra={"batch": batch.id, "why": error})


def _failure(tasks: list[str]) -> str:
    return f"the run failed{f' in {tasks[0]}' if tasks else ''}: see its log in Airflow"


async def wait_for_all(steps: Iterable[Awaitable[T]]) -> list[T]:
    """Return the results of all steps, which run side by side.

    When steps fail, the first error is raised only after every step has ended, so that no step
    is still at work when the next turn begins.
    """
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


_REPLACED = (
    "Airflow has a run of this id already, from before the database was restored or the model was"
    " made anew: batch {batch} has the rows now"
)
_ENDS = {
    RunState.SUCCEEDED: (BatchState.SUCCEEDED, ""),
    RunState.FAILED: (BatchState.FAILED, ""),
    RunState.GONE: (BatchState.FAILED, "the run was deleted in Airflow"),
}
