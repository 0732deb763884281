"""A job can be cancelled at any moment."""

from service_kit.errors import Unavailable
from tests.unit.training.fakes import FakePromoter, endless, succeeding
from tests.unit.training.jobs.bench import Bench, Running
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
    promoter = FakePromoter(*[Unavailable("away")] * 10_000)
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
