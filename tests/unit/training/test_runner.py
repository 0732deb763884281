"""What becomes of jobs, whatever happens to their children."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

import httpx
import pytest

from service_kit.errors import Aborted, Unavailable
from service_kit.model_registry.registry import Registry
from tests.real_parts.waiting import until
from tests.unit.training.fakes import (
    FakePromoter,
    MemoryJobs,
    ScriptedChild,
    ScriptedLauncher,
    endless,
    succeeding,
)
from training_svc.jobs import job_runner as runner_module
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.child_process import ChildEnd
from training_svc.jobs.folders import JobFolders
from training_svc.jobs.job import Job, Params, Promotion, State
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_runner import MAX_COMPARISONS, JobRunner


class Bench:
    """A runner with fakes around it."""

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
        )
        self.folders = folders
        self.runner = runner

    async def submit(self, request_id: str = "r1") -> Job:
        return await self.actions.submit("reviews", request_id, Params(), Promotion.AUTO)

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


@pytest.fixture
def running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """`async with running(child, …, promoter=…, before=…) as bench`."""
    monkeypatch.setattr(runner_module, "PAUSE_S", 0.01)

    @asynccontextmanager
    async def run(
        *children: ScriptedChild,
        promoter: FakePromoter | None = None,
        before: Callable[[Bench], None] = lambda bench: None,
    ) -> AsyncIterator[Bench]:
        bench = Bench(tmp_path, ScriptedLauncher(*children), promoter or FakePromoter())
        before(bench)
        task = asyncio.create_task(bench.runner.run())
        try:
            yield bench
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            bench.folders.unlock()

    return run


async def test_job_goes_from_queue_to_decision(running: Running) -> None:
    async with running(succeeding("7")) as bench:
        assert (await bench.submit()).state is State.QUEUED
        job = await bench.ended()
    assert (job.state, job.version, job.attempt) == (State.SUCCEEDED, "7", 1)
    assert job.decision is not None
    assert job.started_at is not None
    assert job.ended_at is not None
    assert [done.version for done in bench.promoter.carried_out] == ["7"]
    assert bench.tidied == ["reviews"]


async def test_folder_of_a_job_that_succeeded_is_removed(running: Running) -> None:
    async with running(succeeding()) as bench:
        await bench.submit()
        await bench.ended()
        await asyncio.sleep(0)
        assert list(bench.jobs_folder.iterdir()) == []


async def test_jobs_run_one_at_a_time_in_their_order(running: Running) -> None:
    async with running(endless(), succeeding(), succeeding()) as bench:
        for request_id in ("r1", "r2", "r3"):
            await bench.submit(request_id)
        await bench.seen("r1", State.RUNNING)
        assert (await bench.actions.get("r2")).state is State.QUEUED
        await bench.actions.cancel("r1")
        await bench.ended("r3")
    assert [job.request_id for job in bench.launcher.launched] == ["r1", "r2", "r3"]


async def test_reported_error_is_the_jobs_error(running: Running) -> None:
    child = ScriptedChild([{"error": "needs two labels"}], ChildEnd(1))
    async with running(child) as bench:
        await bench.submit()
        job = await bench.ended()
    assert (job.state, job.error) == (State.FAILED, "needs two labels")
    assert bench.promoter.carried_out == []
    assert bench.promoter.ended_runs == [job]


async def test_crash_tells_the_signal_and_the_last_words(running: Running) -> None:
    child = ScriptedChild([{"state": "EVALUATING"}], ChildEnd(-9, "Killed while loading"))
    async with running(child) as bench:
        await bench.submit()
        job = await bench.ended()
    assert job.state is State.FAILED
    assert job.error == (
        "the training process was killed by signal 9 (SIGKILL), as happens when memory runs out; "
        "it last said: Killed while loading"
    )


async def test_end_without_a_decision_is_a_failure(running: Running) -> None:
    async with running(ScriptedChild([{"state": "EVALUATING"}], ChildEnd(0))) as bench:
        await bench.submit()
        job = await bench.ended()
    assert (job.state, job.error) == (
        State.FAILED,
        "the training process ended with exit status 0",
    )


async def test_only_the_newest_folders_of_failed_jobs_are_kept(running: Running) -> None:
    failures = [ScriptedChild([{"error": "no"}], ChildEnd(1)) for _ in range(3)]
    async with running(*failures, succeeding()) as bench:
        for number in range(3):
            await bench.submit(f"r{number}")
            await bench.ended(f"r{number}")
        await bench.submit("last")
        await bench.ended("last")
        await until(lambda: len(list(bench.jobs_folder.iterdir())) == 1)


async def test_request_id_of_a_failed_job_starts_its_next_attempt(running: Running) -> None:
    failing = ScriptedChild([{"error": "no"}], ChildEnd(1))
    async with running(failing, succeeding()) as bench:
        first = await bench.submit()
        await bench.ended()
        second = await bench.submit()
        job = await bench.ended()
    assert (second.id, second.attempt, second.error) == (first.id, 2, "")
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)


async def test_request_id_of_any_other_job_returns_that_job(running: Running) -> None:
    async with running(succeeding()) as bench:
        first = await bench.submit()
        assert (await bench.submit()).id == first.id
        await bench.ended()
        assert (await bench.submit()).state is State.SUCCEEDED
    assert len(bench.launcher.launched) == 1


async def test_queued_job_is_cancelled_without_a_start(running: Running) -> None:
    async with running(endless()) as bench:
        await bench.submit("r1")
        await bench.submit("r2")
        await bench.seen("r1", State.RUNNING)
        assert (await bench.actions.cancel("r2")).state is State.CANCELLED
    assert [job.request_id for job in bench.launcher.launched] == ["r1"]


async def test_cancel_kills_the_worker(running: Running) -> None:
    child = endless()
    async with running(child) as bench:
        await bench.submit()
        await bench.seen("r1", State.RUNNING)
        job = await bench.actions.cancel("r1")
    assert job.state is State.CANCELLED
    assert job.ended_at is not None
    assert child.killed


async def test_cancel_of_an_ended_job_returns_it_as_it_is(running: Running) -> None:
    async with running(succeeding()) as bench:
        await bench.submit()
        ended = await bench.ended()
        assert await bench.actions.cancel("r1") == ended


async def test_cancel_while_the_promotion_waits_for_mlflow_promotes_nothing(
    running: Running,
) -> None:
    promoter = FakePromoter(*[Unavailable("away")] * 10_000)
    async with running(succeeding(), promoter=promoter) as bench:
        await bench.submit()
        await bench.seen("r1", State.EVALUATING)
        job = await bench.actions.cancel("r1")
    assert job.state is State.CANCELLED
    assert job.decision is None
    assert promoter.carried_out == []


async def test_promotion_waits_until_mlflow_is_back(running: Running) -> None:
    promoter = FakePromoter(Unavailable("away"), Unavailable("away"))
    async with running(succeeding(), promoter=promoter) as bench:
        await bench.submit()
        assert (await bench.ended()).state is State.SUCCEEDED
    assert len(promoter.carried_out) == 1


async def test_changed_champion_is_compared_with_again(running: Running) -> None:
    promoter = FakePromoter(Aborted("version 5 became the Champion", "CHAMPION_CHANGED"))
    again = succeeding("6", outcome="KEPT", champion_version="5")
    async with running(succeeding("6"), again, promoter=promoter) as bench:
        await bench.submit()
        job = await bench.ended()
    assert job.state is State.SUCCEEDED
    assert job.decision is not None
    assert (job.decision["outcome"], job.decision["champion_version"]) == ("KEPT", "5")
    assert len(bench.launcher.launched) == 2


async def test_champion_that_never_stays_fails_the_job(running: Running) -> None:
    promoter = FakePromoter(*[Aborted("changed", "CHAMPION_CHANGED")] * MAX_COMPARISONS)
    children = [succeeding() for _ in range(MAX_COMPARISONS)]
    async with running(*children, promoter=promoter) as bench:
        await bench.submit()
        job = await bench.ended()
    assert job.state is State.FAILED
    assert "train again" in job.error
    assert job.decision is None


async def test_interrupted_job_is_resumed_before_others_in_the_same_attempt(
    running: Running,
) -> None:
    def interrupted(bench: Bench) -> None:
        waiting = Job("job-1", "waiting", "reviews")
        half_done = Job("job-2", "half-done", "reviews", state=State.EVALUATING, attempt=3)
        bench.store.jobs = {job.id: job for job in (waiting, half_done)}

    async with running(succeeding(), succeeding(), before=interrupted) as bench:
        await bench.ended("waiting")
    assert [(job.request_id, job.attempt) for job in bench.launcher.launched] == [
        ("half-done", 3),
        ("waiting", 1),
    ]


async def test_cancel_that_a_restart_interrupted_is_done_after_it(running: Running) -> None:
    def interrupted(bench: Bench) -> None:
        job = Job("job-1", "r1", "reviews", state=State.RUNNING, cancel_requested=True)
        bench.store.jobs = {job.id: job}

    async with running(before=interrupted) as bench:
        assert (await bench.ended()).state is State.CANCELLED
    assert bench.launcher.launched == []


async def test_stop_of_the_service_kills_the_worker_and_leaves_the_job(running: Running) -> None:
    child = endless()
    async with running(child) as bench:
        await bench.submit()
        await bench.seen("r1", State.RUNNING)
    assert child.killed
    assert bench.store.jobs["job-1"].state is State.RUNNING
    assert bench.tidied == []


async def test_end_is_written_once_the_database_is_back(running: Running) -> None:
    class BreaksTheDatabase(FakePromoter):
        async def carry_out(self, job: Job) -> None:
            await super().carry_out(job)
            bench.store.away = True
            asyncio.get_running_loop().call_later(0.1, setattr, bench.store, "away", False)

    async with running(succeeding(), promoter=BreaksTheDatabase()) as bench:
        await bench.submit()
        job = await bench.ended()
        assert job.state is State.SUCCEEDED
        assert bench.store.jobs[job.id] == job


async def test_progress_is_written_once_a_second_at_most(running: Running) -> None:
    steps = [{"progress": {"step": step, "total_steps": 500}} for step in range(500)]
    async with running(ScriptedChild(steps, ChildEnd(1))) as bench:
        await bench.submit()
        job = await bench.ended()
    assert job.progress is not None
    assert job.progress["step"] == 499
    assert len(bench.store.saves) <= 4
