"""The bridge: seals batches, posts their DAG runs, and follows them to their end.

A batch is SEALED → RUNNING → SUCCEEDED or FAILED, or SEALED → DEAD; one that is FAILED or DEAD is
SEALED again when somebody has it sent again. A model has at most one batch RUNNING, and none is
sealed for it automatically while one is open. All state is in PostgreSQL: a bridge that dies is
followed by another one that goes on where it was.
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

LOOK_S = 0.25  # between two looks at rows that come in: nobody is woken for them meanwhile
POLL_S = 1.0  # between two questions about a run that is young
LONGEST_POLL_S = 10.0
_POLL_SHARE = 0.05  # of the run's age, so that an hour's run costs few questions
IDLE_S = 3600.0

SEALED = Counter("mesh_batches_sealed", "Batches sealed by the bridge.", ("reason",))
POSTS = Counter("mesh_dag_run_posts", "Attempts to start a DAG run.", ("outcome",))


class Store(Protocol):
    """What the bridge needs of store.BatchStore."""

    async def scan(self) -> list[ModelWork]: ...
    async def seal(self, model: str, reason: BatchReason) -> Batch | None: ...
    async def accepted(self, batch: str) -> None: ...
    async def deferred(self, batch: str, error: str) -> None: ...
    async def refused(self, batch: str, error: str) -> None: ...
    async def ended(self, batch: str, state: BatchState, error: str) -> None: ...


@dataclass(frozen=True)
class Turn:
    """What one turn left: seconds until the next thing is due, and whether rows still wait."""

    due_in: float
    rows_wait: bool
    rows: int = 0
    """Rows that waited at its beginning."""
    scan_s: float = 0.0
    """Seconds that the look at what waits took."""


@dataclass
class _Next:
    """When a batch is looked at again."""

    at: float = 0.0
    failures: int = 0


@dataclass(frozen=True)
class _Wait:
    """How long rows have waited by the bridge's own clock, which nobody sets back."""

    rows: int
    begun_at: float
    changed_at: float

    def at_least(self, waiting: Waiting, now: float) -> Waiting:
        return Waiting(
            waiting.rows,
            max(waiting.oldest_s, now - self.begun_at),
            max(waiting.newest_s, now - self.changed_at),
        )


@dataclass
class Bridge:
    """One turn after another; whoever calls `turn` decides how to sleep in between."""

    store: Store
    airflow: Airflow
    clock: Callable[[], float] = time.monotonic
    jitter: random.Random = field(default_factory=random.Random)
    _next: dict[str, _Next] = field(default_factory=dict)
    _waits: dict[str, _Wait] = field(default_factory=dict)

    async def turn(self) -> Turn:
        """Seal, post and ask whatever is due now."""
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
        self._next = {batch.id: self._next.get(batch.id, _Next()) for batch in batches}
        dues = await _all(map(self._advance, batches))
        return Turn(min(due_in, *dues, IDLE_S), bool(self._waits), rows, scan_s)

    def _time_waiting(self, works: list[ModelWork]) -> None:
        now = self.clock()
        waits: dict[str, _Wait] = {}
        for work in works:
            if work.waiting is not None:
                rows = work.waiting.rows
                wait = self._waits.get(work.model)
                if wait is None or rows < wait.rows:
                    wait = _Wait(rows, now, now)
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
        """Do what is due for one open batch; return the seconds until it is due again."""
        following = self._next[batch.id]
        left = following.at - self.clock()
        if left > 0:
            return left
        step = self._post if batch.state is BatchState.SEALED else self._follow
        try:
            pause = await step(batch, following.failures)
            following.failures = 0
        except Unavailable as error:
            following.failures += 1
            pause = backoff_s(following.failures, self.jitter)
            await self._report_failure(batch, following.failures, str(error))
        following.at = self.clock() + pause
        return pause

    async def _post(self, batch: OpenBatch, failures: int) -> float:
        conf = {
            "model": batch.model,
            "batch_id": batch.id,
            "reason": str(batch.reason),
            "rows": batch.rows,
        }
        try:
            # An attempt that seemed to fail may have got through: asking first spares Airflow's
            # log the error that a second run with the same id leaves there. A batch that is sent
            # again has its run already, unless that was deleted or never accepted.
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
            await self.store.refused(batch.id, str(refusal))
            return 0.0
        await self.store.accepted(batch.id)
        POSTS.labels("accepted").inc()
        log.info("run started", extra={"batch": batch.id})
        return POLL_S

    async def _follow(self, batch: OpenBatch, _failures: int) -> float:
        state = await self.airflow.run_state(batch.id)
        if state is RunState.ACTIVE:
            return min(max(POLL_S, batch.running_s * _POLL_SHARE), LONGEST_POLL_S)
        ended, error = _ENDS[state]
        await self.store.ended(batch.id, ended, error)
        log.info("run ended", extra={"batch": batch.id, "state": ended, "error": error})
        return 0.0

    async def _report_failure(self, batch: OpenBatch, failures: int, error: str) -> None:
        if batch.state is BatchState.SEALED:
            POSTS.labels("deferred").inc()
            await self.store.deferred(batch.id, error)
        if failures == 1:
            log.warning("batch waits for Airflow", extra={"batch": batch.id, "why": error})


async def _all(steps: Iterable[Awaitable[float]]) -> list[float]:
    """Await every step before the first error is raised: none goes on beside the next turn."""
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
