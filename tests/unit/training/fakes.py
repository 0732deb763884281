"""Twins of the runner's parts: a job store in memory, scripted child processes, a promoter."""

import asyncio
import signal
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from service_kit.errors import Aborted, AlreadyExists, NotFound, Unavailable
from training_svc.jobs.child_process import ChildEnd
from training_svc.jobs.job import Job, Params, Promotion, State

DECISION = {
    "outcome": "PROMOTED",
    "reason": "first version",
    "champion_version": "",
    "champion_accuracy": 0.0,
    "challenger_accuracy": 0.9,
    "p_value": 0.0,
}


LONG_AGO = datetime.min.replace(tzinfo=UTC)
# Fields of a job that saving it does not change.
DECIDED_BY_CALLERS = (
    "request_id",
    "model",
    "params",
    "promotion",
    "created_at",
    "cancel_requested",
)


class MemoryJobs:
    """A JobStore without a database, which keeps the rules of tests/integration/training/
    test_job_store.py. `saves` are the jobs of all calls of save; `away` makes every call fail."""

    def __init__(self, models: Collection[str] = ("reviews",)) -> None:
        """`models` are those that have a training table."""
        self.jobs: dict[str, Job] = {}
        self.saves: list[Job] = []
        self.away = False
        self._models = models
        self._ids = count(1)

    async def submit(
        self, model: str, request_id: str, params: Params, promotion: Promotion
    ) -> Job:
        self._check_not_away()
        job = next((job for job in self.jobs.values() if job.request_id == request_id), None)
        if job is None:
            self._check_has_rows(model)
            now = datetime.now(UTC)
            job = Job(f"job-{next(self._ids)}", request_id, model, params=params, created_at=now)
            job = replace(job, promotion=promotion, queued_at=now)
        if job.model != model:
            raise AlreadyExists(f"request_id: {request_id!r} belongs to a training of {job.model}")
        if job.state in (State.FAILED, State.CANCELLED):
            job = job.requeued()
        self.jobs[job.id] = job
        return job

    async def get(self, any_id: str) -> Job:
        self._check_not_away()
        if any_id in self.jobs:
            return self.jobs[any_id]
        for job in self.jobs.values():
            if job.request_id == any_id:
                return job
        raise NotFound(f"no training has the id or request id {any_id!r}")

    async def list(self, model: str, limit: int) -> Sequence[Job]:
        self._check_not_away()
        jobs = [job for job in self.jobs.values() if job.model == model]
        if not jobs:
            self._check_has_rows(model)
        return jobs[::-1][:limit]

    async def unfinished(self) -> Sequence[Job]:
        self._check_not_away()
        jobs = [job for job in self.jobs.values() if not job.state.is_final]
        return sorted(jobs, key=lambda job: (job.state is State.QUEUED, job.queued_at or LONG_AGO))

    async def save(self, job: Job) -> None:
        self._check_not_away()
        self.saves.append(job)
        stored = self.jobs.get(job.id)
        if stored is not None and stored.attempt <= job.attempt:
            kept = {name: getattr(stored, name) for name in DECIDED_BY_CALLERS}
            self.jobs[job.id] = replace(job, **kept)

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
        elif not job.state.is_final:
            job = replace(job, cancel_requested=True)
        self.jobs[job.id] = job
        return job

    def _check_not_away(self) -> None:
        if self.away:
            raise Unavailable("the store is away")

    def _check_has_rows(self, model: str) -> None:
        if model not in self._models:
            raise NotFound(
                f"no training rows of a model {model!r}; import rows first: mesh import {model}"
            )


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
    """Keeps the jobs that it was called with; raises the given errors first, one a call."""

    def __init__(self, *errors: Aborted | Unavailable) -> None:
        self.errors = list(errors)
        self.carried_out: list[Job] = []
        self.ended_runs: list[Job] = []

    async def carry_out(self, job: Job) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.carried_out.append(job)

    async def end_run(self, job: Job) -> None:
        self.ended_runs.append(job)
