"""Jobs go through their states, however their child processes end."""

import asyncio

import pytest

from tests.real_parts.waiting import until
from tests.unit.training.fakes import FakePromoter, ScriptedChild, endless, succeeding
from tests.unit.training.jobs.bench import Bench, Running
from training_svc.jobs import taken_job
from training_svc.jobs.child_process import ChildEnd
from training_svc.jobs.job import Job, State


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
        await until(lambda: list(bench.jobs_folder.iterdir()) == [])
    assert len(bench.launcher.launched) == 1


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
    assert [run.error for run in bench.promoter.ended_runs] == [job.error]
    assert not job.lasting_error


async def test_error_that_another_attempt_would_repeat_is_marked(running: Running) -> None:
    report = {"error": "needs two labels", "lasting_error": True}
    async with running(ScriptedChild([report], ChildEnd(1))) as bench:
        await bench.submit()
        assert (await bench.ended()).lasting_error


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


async def test_only_the_newest_folder_of_failed_jobs_is_kept_without_its_large_files(
    running: Running,
) -> None:
    failures = [ScriptedChild([{"error": "no"}], ChildEnd(1)) for _ in range(3)]
    async with running(*failures, succeeding()) as bench:
        for number in range(3):
            await bench.submit(f"r{number}")
            newest = await bench.ended(f"r{number}")
        await bench.submit("last")
        await bench.ended("last")
        kept = bench.jobs_folder / newest.folder_name
        await until(lambda: list(bench.jobs_folder.iterdir()) == [kept])
        assert [path.name for path in kept.iterdir()] == ["job.json"]


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


async def test_stop_of_the_service_kills_the_child_and_leaves_the_job(running: Running) -> None:
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


async def test_progress_between_two_intervals_is_not_written(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken_job, "SAVE_INTERVAL_S", 3600.0)
    steps = [{"progress": {"step": step, "total_steps": 500}} for step in range(500)]
    async with running(ScriptedChild(steps, ChildEnd(1))) as bench:
        await bench.submit()
        job = await bench.ended()
    assert job.progress == {"step": 499, "total_steps": 500}
    assert [(saved.state, saved.progress) for saved in bench.store.saves] == [
        (State.RUNNING, None),
        (State.FAILED, job.progress),
    ]


async def test_progress_is_written_when_the_interval_has_passed(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken_job, "SAVE_INTERVAL_S", 0.0)
    steps = [{"progress": {"step": step, "total_steps": 3}} for step in range(3)]
    async with running(ScriptedChild(steps, ChildEnd(1))) as bench:
        await bench.submit()
        await bench.ended()
    written = [saved.progress["step"] for saved in bench.store.saves if saved.progress]
    assert written == [0, 1, 2, 2]
