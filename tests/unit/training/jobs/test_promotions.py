"""The decision of a job is carried out, or compared again."""

from service_kit.errors import Aborted, Unavailable
from tests.unit.training.fakes import FakePromoter, succeeding
from tests.unit.training.jobs.bench import Running
from training_svc.jobs.job import State
from training_svc.jobs.job_runner import MAX_COMPARISONS


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
