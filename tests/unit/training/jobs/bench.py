"""A job runner with twins around it."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import httpx

from service_kit.model_registry.registry import Registry
from tests.unit.training.fakes import FakePromoter, MemoryJobs, ScriptedLauncher
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.folders import JobFolders
from training_svc.jobs.job import Job, State, Submission
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_runner import JobRunner


class Bench:
    """A runner with twins around it."""

    def __init__(self, folder: Path, launcher: ScriptedLauncher, promoter: FakePromoter) -> None:
        self.store = MemoryJobs()
        self.changes = JobChanges()
        self.launcher = launcher
        self.promoter = promoter
        self.jobs_folder = folder / "jobs"
        folders = JobFolders(folder, keep_failed=1)
        folders.lock()
        self.tidied: list[str] = []

        async def tidy_up(model: str) -> None:
            self.tidied.append(model)

        runner = JobRunner(
            *(self.store, self.changes, launcher, promoter, folders, tidy_up),
        )
        everything = httpx.MockTransport(
            lambda request: httpx.Response(200, json={"registered_model": {"name": "reviews"}})
        )
        self.actions = CallerActions(
            self.store,
            self.changes,
            Registry("http://mlflow", everything),
            runner.wake,
            runner.cancel,
            max_examples=1000,
        )
        self.folders = folders
        self.runner = runner

    async def submit(self, request_id: str = "r1") -> Job:
        return await self.actions.submit(Submission("reviews", request_id))

    async def ended(self, any_id: str = "r1") -> Job:
        async with asyncio.timeout(60):
            async for job in self.actions.watch(any_id):
                last = job
        return last

    async def seen(self, any_id: str, state: State) -> Job:
        async with asyncio.timeout(60):
            async for job in self.actions.watch(any_id):
                if job.state is state:
                    return job
        raise AssertionError(f"{any_id} never was {state}")


Running = Callable[..., AbstractAsyncContextManager[Bench]]
