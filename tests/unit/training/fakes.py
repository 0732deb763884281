"""Twins of the runner's parts: a job store in memory, scripted child processes, a promoter."""

import asyncio
import signal
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from service_kit.errors import Aborted, Exhausted, NotFound, Unavailable
from training_svc.jobs.child_process import ChildEnd
from training_svc.jobs.job import Job, State, Submission
from training_svc.jobs.job_statements import MAX_QUEUED, WORKER_SILENT_S
from training_svc.jobs.job_store import Position
from training_svc.jobs.request_validation import no_training, used_elsewhere

DECISION = {
    "outcome": "PROMOTED",
    "reason": "first version",
    "champion_version": "",
    "champion_accuracy": 0.0,
    "challenger_accuracy": 0.9,
    "p_value": 0.0,
}


LONG_AGO = datetime.min.replace(tzinfo=UTC)
# What a job's worker writes.
NOTED = ("device", "progress", "run_id", "version", "metrics", "decision", "rows")
STARTED = (State.RUNNING, State.EVALUATING)


class MemoryJobs:
    """A JobStore without a database, which keeps the rules of tests/integration/training/
    test_job_store*.py. `saves` are the jobs of all calls of note and end; `away` makes every call
    fail. `workers` and `seen_at` say which worker has a job, and when it last said so."""

    def __init__(self, models: Collection[str] = ("reviews",)) -> None:
        """`models` are those that have a training table."""
        self.jobs: dict[str, Job] = {}
        self.workers: dict[str, str] = {}
        self.seen_at: dict[str, datetime] = {}
        self.saves: list[Job] = []
        self.failed_batches: dict[str, datetime] = {}  # when each failed
        self.away = False
        self._models = models
        self._ids = count(1)
        self._places: dict[str, int] = {}
        self._place = count(1)

    async def submit(self, asked: Submission) -> Job:
        self._check_not_away()
        job = self._of_request(asked.request_id)
        now = datetime.now(UTC)
        if job is None:
            self._check_has_rows(asked.model)
            if sum(job.state is State.QUEUED for job in self.jobs.values()) >= MAX_QUEUED:
                raise Exhausted(f"at most {MAX_QUEUED:,} trainings may wait")
            job = Job(f"job-{next(self._ids)}", **vars(asked), created_at=now, queued_at=now)
            self._enqueue(job)
        if job.model != asked.model:
            raise used_elsewhere(asked.request_id)
        if job.cancel_requested and not job.state.is_final:
            raise Unavailable(f"the training {job.id} is being cancelled")
        if job.state in (State.FAILED, State.CANCELLED):
            job = job.requeued()
            self._enqueue(job)
        return job

    async def get(self, any_id: str) -> Job:
        self._check_not_away()
        job = self.jobs.get(any_id) or self._of_request(any_id)
        if job is None:
            raise no_training(any_id)
        return job

    async def list(self, model: str, limit: int, after: Position | None = None) -> Sequence[Job]:
        self._check_not_away()
        jobs = [job for job in self.jobs.values() if job.model == model]
        jobs.sort(key=lambda job: job.id)
        jobs.sort(key=lambda job: job.created_at or LONG_AGO, reverse=True)
        if after is not None:
            jobs = [job for job in jobs if _is_behind(job, after)]
        elif not jobs:
            self._check_has_rows(model)
        return jobs[:limit]

    async def unfinished(self) -> Sequence[Job]:
        self._check_not_away()
        return self._in_order(job for job in self.jobs.values() if not job.state.is_final)

    async def take(self, worker: str) -> Job | None:
        now = datetime.now(UTC)
        silent = timedelta(seconds=WORKER_SILENT_S)
        for job in await self.unfinished():
            owner = self.workers.get(job.id, "")
            is_heard = abs(now - self.seen_at.get(job.id, LONG_AGO)) <= silent
            if job.state is State.QUEUED or owner in ("", worker) or not is_heard:
                self.workers[job.id] = worker
                self.seen_at[job.id] = now
                self.jobs[job.id] = job.started()
                return self.jobs[job.id]
        return None

    async def note(self, job: Job, worker: str) -> Job | None:
        self._check_not_away()
        self.saves.append(job)
        return self._update(job, worker, state=job.state, **_noted(job))

    async def commit(self, job: Job, worker: str) -> Job | None:
        stored = await self.get(job.id)
        if stored.cancel_requested:
            return None
        return self._update(job, worker, state=State.EVALUATING, committed=True, **_noted(job))

    async def reopen(self, job: Job, worker: str) -> Job | None:
        self._check_not_away()
        return self._update(job, worker, committed=False)

    async def end(self, job: Job, worker: str) -> Job:
        stored = await self.get(job.id)
        self.saves.append(job)
        allowed = {State.SUCCEEDED: stored.committed, State.CANCELLED: not stored.committed}
        if not allowed.get(job.state, True):
            return stored
        changes = {name: getattr(job, name) for name in ("state", "error", "lasting_error")}
        ended_at = datetime.now(UTC)
        return self._update(job, worker, **changes, ended_at=ended_at, **_noted(job)) or stored

    async def forget_old(self, days: int) -> None:
        self._check_not_away()
        oldest = datetime.now(UTC) - timedelta(days=days)
        for job in tuple(self.jobs.values()):
            if job.ended_at is not None and job.ended_at < oldest:
                del self.jobs[job.id]

    async def request_cancel(self, any_id: str) -> Job:
        job = await self.get(any_id)
        if job.state is State.QUEUED:
            job = job.ended(State.CANCELLED)
        elif not job.state.is_final and not job.committed:
            job = replace(job, cancel_requested=True)
        self.jobs[job.id] = job
        return job

    async def cancel_jobs_of_failed_batches(self) -> Sequence[Job]:
        self._check_not_away()
        changed = []
        for job in tuple(self.jobs.values()):
            failed_at = self.failed_batches.get(job.request_id)
            is_over = job.state.is_final or job.committed or job.cancel_requested
            if failed_at is not None and failed_at > (job.queued_at or LONG_AGO) and not is_over:
                changed.append(await self.request_cancel(job.id))
        return changed

    def _of_request(self, request_id: str) -> Job | None:
        return next((job for job in self.jobs.values() if job.request_id == request_id), None)

    def _enqueue(self, job: Job) -> None:
        self.jobs[job.id] = job
        self.workers[job.id] = ""
        self._places[job.id] = next(self._place)

    def _in_order(self, jobs: Iterable[Job]) -> Sequence[Job]:
        return sorted(
            jobs, key=lambda job: (job.state is State.QUEUED, self._places.get(job.id, 0))
        )

    def _update(self, job: Job, worker: str, **changes: Any) -> Job | None:
        stored = self.jobs.get(job.id)
        is_mine = self.workers.get(job.id, "") == worker
        if stored is None or not is_mine or stored.attempt != job.attempt:
            return None
        if stored.state not in STARTED:
            return None
        self.seen_at[job.id] = datetime.now(UTC)
        self.jobs[job.id] = replace(stored, **changes)
        return self.jobs[job.id]

    def _check_not_away(self) -> None:
        if self.away:
            raise Unavailable("the store is away")

    def _check_has_rows(self, model: str) -> None:
        if model not in self._models:
            raise NotFound(
                f"no training rows of a model {model!r}; import rows first: mesh import {model}"
            )


def _noted(job: Job) -> dict[str, Any]:
    return {name: getattr(job, name) for name in NOTED}


def _is_behind(job: Job, after: Position) -> bool:
    created_at = job.created_at or LONG_AGO
    return created_at < after.created_at or (created_at == after.created_at and job.id > after.id)


class ScriptedChild:
    """Yields the given reports; without a given end it then waits until it is killed."""

    def __init__(self, reports: Sequence[Mapping[str, Any]], ended: ChildEnd | None) -> None:
        self._reports = reports
        self._ended = ended
        self._killed = asyncio.Event()

    async def reports(self) -> AsyncIterator[Mapping[str, Any]]:
        for report in self._reports:
            await asyncio.sleep(0)
            yield report
        if self._ended is None:
            await self._killed.wait()

    async def wait(self) -> ChildEnd:
        return self._ended or ChildEnd(-signal.SIGKILL)

    def kill(self) -> None:
        self._killed.set()

    @property
    def killed(self) -> bool:
        return self._killed.is_set()


def succeeding(version: str = "1", **decision: object) -> ScriptedChild:
    return ScriptedChild(
        [
            {"rows": {"train": 4, "test": 2, "dropped": 0, "digest": "d"}},
            {"progress": {"step": 1, "total_steps": 2}},
            {"progress": {"step": 2, "total_steps": 2}},
            {"state": "EVALUATING"},
            {"version": version, "decision": DECISION | decision},
        ],
        ChildEnd(0),
    )


def endless() -> ScriptedChild:
    return ScriptedChild([{"progress": {"step": 1, "total_steps": 9}}], None)


class ScriptedLauncher:
    """Gives the next scripted child to each job; keeps the jobs in `launched`."""

    def __init__(self, *children: ScriptedChild) -> None:
        self.children = list(children)
        self.launched: list[Job] = []

    async def launch(self, job: Job, folder: Path) -> ScriptedChild:
        (folder / "job.json").touch()
        (folder / "checkpoints").mkdir(exist_ok=True)
        self.launched.append(job)
        return self.children.pop(0)


class FakePromoter:
    """Keeps the jobs that it was called with. `explain` and `carry_out` raise the errors given for
    them first, one a call."""

    def __init__(
        self, *errors: Aborted | Unavailable, when_explaining: Sequence[Unavailable] = ()
    ) -> None:
        self.errors = list(errors)
        self.when_explaining = list(when_explaining)
        self.explained: list[Job] = []
        self.carried_out: list[Job] = []
        self.ended_runs: list[Job] = []

    async def explain(self, job: Job) -> None:
        if self.when_explaining:
            raise self.when_explaining.pop(0)
        self.explained.append(job)

    async def carry_out(self, job: Job) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.carried_out.append(job)

    async def end_run(self, job: Job) -> None:
        self.ended_runs.append(job)
