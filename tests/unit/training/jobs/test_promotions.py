"""The decision of a job is carried out, or compared again."""

from dataclasses import replace

from service_kit.errors import Aborted, Unavailable
from tests.real_parts.waiting import until
from tests.unit.training.fakes import DECISION, FakePromoter, ScriptedChild, succeeding
from tests.unit.training.jobs.bench import Bench, Running
from training_svc.jobs.child_process import ChildEnd
from training_svc.jobs.job import Job, State
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


async def test_decision_that_a_restart_cut_off_is_carried_out_without_training_again(
    running: Running,
) -> None:
    def interrupted(bench: Bench) -> None:
        job = Job("job-1", "r1", "reviews", state=State.EVALUATING, version="7", committed=True)
        bench.store.jobs = {job.id: replace(job, decision=DECISION)}

    async with running(before=interrupted) as bench:
        assert (await bench.ended()).state is State.SUCCEEDED
    assert bench.launcher.launched == []
    assert [job.version for job in bench.promoter.carried_out] == ["7"]


async def test_job_that_may_have_promoted_never_ends_cancelled(running: Running) -> None:
    """It was cut off in the middle of its promotion, and another version is Champion now."""
    promoter = FakePromoter(
        Unavailable("away"), Aborted("version 5 became the Champion", "CHAMPION_CHANGED")
    )
    again = ScriptedChild(
        [{"state": "EVALUATING"}, {"version": "1", "decision": DECISION | {"outcome": "KEPT"}}],
        ChildEnd(0),
    )
    async with running(succeeding(), again, promoter=promoter) as bench:
        await bench.submit()
        await until(lambda: len(bench.launcher.launched) == 2)
        await bench.store.request_cancel("r1")
        job = await bench.ended()
    assert (job.state, job.cancel_requested) == (State.SUCCEEDED, False)
