"""A job can be cancelled at any moment."""

from datetime import UTC, datetime

import pytest

from service_kit.errors import Unavailable
from tests.real_parts.waiting import until
from tests.unit.training.fakes import FakePromoter, MemoryJobs, endless, succeeding
from tests.unit.training.jobs.bench import Bench, Running
from training_svc.jobs import caller_actions, taken_job
from training_svc.jobs.ended_batches import EndedBatches
from training_svc.jobs.job import Job, State


async def test_queued_job_is_cancelled_without_a_start(running: Running) -> None:
    async with running(endless()) as bench:
        await bench.submit("r1")
        await bench.submit("r2")
        await bench.seen("r1", State.RUNNING)
        assert (await bench.actions.cancel("r2")).state is State.CANCELLED
    assert [job.request_id for job in bench.launcher.launched] == ["r1"]


async def test_cancel_kills_the_child(running: Running) -> None:
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
    promoter = FakePromoter(when_explaining=[Unavailable("away")] * 10_000)
    async with running(succeeding(), promoter=promoter) as bench:
        await bench.submit()
        await bench.seen("r1", State.EVALUATING)
        job = await bench.actions.cancel("r1")
    assert job.state is State.CANCELLED
    assert job.decision is None
    assert promoter.carried_out == []


async def test_cancel_that_a_restart_interrupted_is_done_after_it(running: Running) -> None:
    def interrupted(bench: Bench) -> None:
        job = Job("job-1", "r1", "reviews", state=State.RUNNING, cancel_requested=True)
        bench.store.jobs = {job.id: job}

    async with running(before=interrupted) as bench:
        assert (await bench.ended()).state is State.CANCELLED
    assert bench.launcher.launched == []


async def test_cancel_once_the_decision_is_being_carried_out_does_not_stop_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller_actions, "CANCEL_TIMEOUT_S", 0.05)
    promoter = FakePromoter(*[Unavailable("away")] * 10_000)
    async with running(succeeding(), promoter=promoter) as bench:
        await bench.submit()
        await until(lambda: bench.store.jobs["job-1"].committed)
        job = await bench.actions.cancel("r1")
        assert (job.state, job.cancel_requested) == (State.EVALUATING, False)
        promoter.errors.clear()
        assert (await bench.ended()).state is State.SUCCEEDED
    assert len(promoter.carried_out) == 1


async def test_cancel_at_another_service_ends_the_job_here(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken_job, "HEARTBEAT_S", 0.02)
    child = endless()
    async with running(child) as bench:
        await bench.submit()
        await bench.seen("r1", State.RUNNING)
        await bench.store.request_cancel("r1")
        assert (await bench.ended()).state is State.CANCELLED
    assert child.killed


async def test_job_that_another_service_has_taken_over_is_left_to_it(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(taken_job, "HEARTBEAT_S", 0.02)
    child = endless()
    async with running(child) as bench:
        await bench.submit()
        await bench.seen("r1", State.RUNNING)
        bench.store.workers["job-1"] = "another service"
        await until(lambda: child.killed)
        await until(lambda: bench.changes.live("job-1") is None)
        assert (await bench.actions.get("r1")).state is State.RUNNING
    assert bench.promoter.ended_runs == []
    assert bench.promoter.carried_out == []


async def test_job_that_was_deleted_while_it_ran_is_let_go(running: Running) -> None:
    child = endless()
    async with running(child, succeeding()) as bench:
        await bench.submit("r1")
        await bench.seen("r1", State.RUNNING)
        del bench.store.jobs["job-1"]
        child.kill()
        await bench.submit("r2")
        assert (await bench.ended("r2")).state is State.SUCCEEDED
        assert bench.changes.live("job-1") is None


async def test_cancel_between_the_queue_and_the_start_is_never_lost(running: Running) -> None:
    class CancelsAtTheStart(MemoryJobs):
        async def take(self, worker: str) -> Job | None:
            job = await super().take(worker)
            if job is not None:
                await self.request_cancel(job.id)
            return job

    def swap(bench: Bench) -> None:
        bench.store.__class__ = CancelsAtTheStart

    async with running(before=swap) as bench:
        await bench.submit()
        assert (await bench.ended()).state is State.CANCELLED
    assert bench.launcher.launched == []
    assert bench.promoter.carried_out == []


async def test_job_is_cancelled_when_the_run_of_its_batch_has_ended(running: Running) -> None:
    child = endless()
    async with running(child) as bench:
        await bench.submit()
        await bench.seen("r1", State.RUNNING)
        bench.store.failed_batches["r1"] = datetime.now(UTC)
        await EndedBatches(bench.store, bench.changes, bench.runner.cancel).look()
        assert (await bench.ended()).state is State.CANCELLED
    assert child.killed
