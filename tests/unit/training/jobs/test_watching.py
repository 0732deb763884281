"""Watchers see the newest state of a job, and leave nothing behind."""

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace

import pytest

from service_kit.errors import NotFound, Unavailable
from service_kit.model_registry.registry import Registry
from tests.unit.training.fakes import MemoryJobs
from training_svc.jobs import caller_actions
from training_svc.jobs.caller_actions import WATCH_INTERVAL_S, CallerActions
from training_svc.jobs.job import Job, State
from training_svc.jobs.job_changes import JobChanges

JOB = Job("job-1", "r1", "reviews", state=State.RUNNING)


class Watched:
    def __init__(self) -> None:
        self.store = MemoryJobs()
        self.store.jobs = {JOB.id: JOB}
        self.changes = JobChanges()
        registry = Registry("http://mlflow")
        self.actions = CallerActions(
            self.store, self.changes, registry, lambda: None, lambda job_id: None, 1000
        )

    def at_step(self, step: int) -> Job:
        job = replace(JOB, progress={"step": step})
        self.changes.publish(job)
        return job

    def end(self) -> Job:
        job = JOB.ended(State.SUCCEEDED)
        self.store.jobs[job.id] = job
        self.changes.publish(job)
        return job


@pytest.fixture
def watched() -> Watched:
    return Watched()


async def test_watch_begins_with_the_present_state_and_ends_with_the_final_one(
    watched: Watched,
) -> None:
    async with aclosing(watched.actions.watch("r1")) as jobs:
        assert await anext(jobs) == JOB
        third = watched.at_step(3)
        assert await anext(jobs) == third
        ended = watched.end()
        assert await anext(jobs) == ended
        with pytest.raises(StopAsyncIteration):
            await anext(jobs)


async def test_late_watcher_of_an_ended_job_gets_its_end(watched: Watched) -> None:
    ended = watched.end()
    assert [job async for job in watched.actions.watch("job-1")] == [ended]


async def test_watcher_that_joins_again_sees_the_newest_state(watched: Watched) -> None:
    watched.at_step(5)
    async with aclosing(watched.actions.watch("r1")) as jobs:
        assert (await anext(jobs)).progress == {"step": 5}


async def test_changes_within_the_interval_reach_a_watcher_as_one(watched: Watched) -> None:
    async with aclosing(watched.actions.watch("r1")) as jobs:
        await anext(jobs)
        waiting = asyncio.create_task(anext(jobs))
        await asyncio.sleep(0)  # now it waits for a change
        started = time.monotonic()
        for step in range(100):
            watched.at_step(step)
            await asyncio.sleep(0)
        assert (await waiting).progress == {"step": 99}
        assert time.monotonic() - started >= WATCH_INTERVAL_S
        ended = watched.end()
        assert await anext(jobs) == ended


async def test_watcher_that_goes_away_leaves_nothing_behind(watched: Watched) -> None:
    async with aclosing(watched.actions.watch("r1")) as jobs:
        await anext(jobs)
        assert watched.changes.watchers() == 1
    assert watched.changes.watchers() == 0


async def test_stopping_service_ends_every_watch_with_unavailable(watched: Watched) -> None:
    async with aclosing(watched.actions.watch("r1")) as jobs:
        await anext(jobs)
        waiting = asyncio.create_task(anext(jobs))
        await asyncio.sleep(0)
        watched.changes.close()
        with pytest.raises(Unavailable, match="watch again"):
            await waiting


async def test_unknown_job_cannot_be_watched(watched: Watched) -> None:
    with pytest.raises(NotFound):
        await anext(watched.actions.watch("nobody"))


async def test_a_job_that_does_not_change_is_sent_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_actions, "REPEAT_S", 0.05)
    monkeypatch.setattr(caller_actions, "LOOK_EVERY_S", 0.01)
    async with asyncio.timeout(20), aclosing(watched.actions.watch("r1")) as jobs:
        assert [await anext(jobs) for _ in range(3)] == [JOB] * 3
