"""The rules of a job store, held against PostgreSQL's and against its twin in memory: how a job
goes from state to state, whoever else changes it at the same moment."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from service_kit.errors import NotFound, Unavailable
from tests.integration.training.job_stores import (
    ENDED,
    OTHER_WORKER,
    WORKER,
    start,
    submit,
    submit_in,
)
from tests.real_parts.postgres import execute
from tests.unit.training import fakes
from training_svc.jobs import job_statements
from training_svc.jobs.job import Job, Params, Promotion, State
from training_svc.jobs.job_store import JobStore

STARTED = (State.RUNNING, State.EVALUATING)
DECISION = {"outcome": "PROMOTED", "reason": "better", "champion_version": "", "p_value": 0.0}


async def test_taken_job_is_running_and_the_worker_gets_it_again_after_a_restart(
    store: JobStore,
) -> None:
    await submit(store, "r1")
    await submit(store, "r2")
    job = await start(store, "r1")
    assert job.state is State.RUNNING
    assert job.started_at is not None
    assert await store.take(WORKER) == job
    noted = await store.note(replace(job, state=State.EVALUATING), WORKER)
    assert await store.take(WORKER) == noted


async def test_two_workers_never_take_the_same_job(store: JobStore) -> None:
    for request_id in ("r1", "r2", "r3"):
        await submit(store, request_id)
    taken = await asyncio.gather(*(store.take(f"worker {n}") for n in range(4)))
    ids = [job.request_id for job in taken if job is not None]
    assert sorted(ids) == ["r1", "r2", "r3"]


async def test_job_of_a_worker_that_is_silent_goes_to_another_and_the_first_learns_it(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = await submit_in(store, State.RUNNING)
    assert await store.take(OTHER_WORKER) is None
    for module in (job_statements, fakes):
        monkeypatch.setattr(module, "WORKER_SILENT_S", 0)
    assert await store.take(OTHER_WORKER) == job
    assert await store.note(replace(job, version="7"), WORKER) is None
    assert await store.commit(job, WORKER) is None
    assert await store.end(job.ended(State.FAILED, "late"), WORKER) == job
    assert (await store.note(replace(job, version="8"), OTHER_WORKER)) is not None


async def test_job_noted_before_the_clock_was_set_back_is_taken_over_all_the_same(
    store: JobStore, database_url: str | None
) -> None:
    job = await submit_in(store, State.RUNNING)
    if isinstance(store, fakes.MemoryJobs):
        store.seen_at[job.id] = datetime.max.replace(tzinfo=UTC)
    else:
        assert database_url is not None
        execute(
            database_url, "UPDATE mesh.training_jobs SET worker_seen_at = now() + interval '1 day'"
        )
    assert await store.take(OTHER_WORKER) == job


async def test_queue_keeps_its_order_when_the_clock_is_set_back(
    store: JobStore, database_url: str | None
) -> None:
    first = await submit(store, "r1")
    if isinstance(store, fakes.MemoryJobs):
        store.jobs[first.id] = replace(first, queued_at=datetime.max.replace(tzinfo=UTC))
    else:
        assert database_url is not None
        execute(database_url, "UPDATE mesh.training_jobs SET queued_at = now() + interval '1 day'")
    await submit(store, "r2")
    await start(store, "r1")


async def test_everything_that_happened_to_a_job_is_noted_and_ended(store: JobStore) -> None:
    job = await submit_in(store, State.RUNNING)
    happened = replace(
        job,
        device="cpu (fp32, 1 thread)",
        progress={"step": 5, "total_steps": 9, "loss": 0.25},
        run_id="run",
        version="7",
        metrics={"accuracy": 0.9},
        decision={"outcome": "KEPT", "reason": "not better", "p_value": 0.5},
        rows={"train": 4, "test": 2, "dropped": 1, "digest": "abc"},
    )
    assert await store.note(happened, WORKER) == happened
    ended = await store.end(happened.ended(State.FAILED, "an error", lasting=True), WORKER)
    assert ended.ended_at is not None
    assert ended == replace(
        *(happened,),
        **{"state": State.FAILED, "error": "an error", "lasting_error": True},
        ended_at=ended.ended_at,
    )
    assert await store.get(job.id) == ended


async def test_a_note_changes_nothing_that_the_caller_decided(store: JobStore) -> None:
    job = await submit_in(store, State.RUNNING)
    await store.request_cancel(job.id)
    changed = replace(
        job,
        request_id="other",
        model="films",
        params=Params(epochs=3),
        promotion=Promotion.CHALLENGER_ONLY,
        serve=True,
        created_at=datetime.now(UTC),
        progress={"step": 1},
    )
    noted = await store.note(changed, WORKER)
    assert noted == replace(job, cancel_requested=True, progress={"step": 1})


@pytest.mark.parametrize("state", ENDED)
async def test_late_note_and_late_end_do_not_touch_a_job_that_has_ended(
    store: JobStore, state: State
) -> None:
    ended = await submit_in(store, state)
    running = replace(ended, state=State.RUNNING, committed=False)
    assert await store.note(running, WORKER) is None
    assert await store.commit(running, WORKER) is None
    for other in ENDED:
        assert await store.end(running.ended(other, "late"), WORKER) == ended
    assert await store.get("r1") == ended


async def test_late_note_and_late_end_of_an_attempt_do_not_touch_the_next_one(
    store: JobStore,
) -> None:
    first = await submit_in(store, State.FAILED)
    await submit(store)
    second = await start(store, "r1")
    assert second.attempt == 2
    late = replace(first, state=State.RUNNING, error="late")
    assert await store.note(late, WORKER) is None
    assert await store.commit(late, WORKER) is None
    assert await store.end(late.ended(State.FAILED, "late"), WORKER) == second


async def test_note_of_a_job_that_was_deleted_does_not_bring_it_back(store: JobStore) -> None:
    assert await store.note(Job("job-gone", "r1", "reviews"), WORKER) is None
    with pytest.raises(NotFound):
        await store.get("job-gone")


async def test_cancel_of_a_queued_job_ends_it_so_that_nobody_takes_it(store: JobStore) -> None:
    await submit(store)
    cancelled = await store.request_cancel("r1")
    assert (cancelled.state, cancelled.cancel_requested) == (State.CANCELLED, False)
    assert cancelled.ended_at is not None
    assert await store.get("r1") == cancelled
    assert await store.take(WORKER) is None


async def test_cancel_and_start_at_the_same_moment_never_both_win(store: JobStore) -> None:
    for number in range(10):
        job = await submit(store, f"r{number}")
        cancelled, taken = await asyncio.gather(store.request_cancel(job.id), store.take(WORKER))
        if taken is None:
            assert cancelled.state is State.CANCELLED
            continue
        assert (cancelled.state, cancelled.cancel_requested) == (State.RUNNING, True)
        assert await store.commit(taken, WORKER) is None
        await store.end(taken.ended(State.CANCELLED), WORKER)


@pytest.mark.parametrize("state", STARTED)
async def test_cancel_of_a_started_job_is_noted_and_it_can_neither_commit_nor_succeed(
    store: JobStore, state: State
) -> None:
    job = await submit_in(store, state)
    requested = replace(job, cancel_requested=True)
    assert await store.request_cancel("r1") == requested
    assert await store.note(job, WORKER) == requested
    assert await store.commit(job, WORKER) is None
    assert await store.end(job.ended(State.SUCCEEDED), WORKER) == requested
    ended = await store.end(job.ended(State.CANCELLED), WORKER)
    assert ended.state is State.CANCELLED


async def test_job_that_is_being_cancelled_cannot_be_submitted_until_it_has_ended(
    store: JobStore,
) -> None:
    job = await submit_in(store, State.RUNNING)
    await store.request_cancel("r1")
    with pytest.raises(Unavailable, match="is being cancelled"):
        await submit(store)
    await store.end(job.ended(State.CANCELLED), WORKER)
    assert (await submit(store)).attempt == 2


async def test_committed_job_cannot_be_cancelled_and_succeeds(store: JobStore) -> None:
    job = await submit_in(store, State.EVALUATING)
    decided = replace(job, version="7", decision=DECISION)
    committed = await store.commit(decided, WORKER)
    assert committed == replace(decided, committed=True)
    assert await store.commit(decided, WORKER) == committed  # as after a lost answer
    assert await store.request_cancel("r1") == committed
    assert await store.end(decided.ended(State.CANCELLED), WORKER) == committed
    ended = await store.end(decided.ended(State.SUCCEEDED), WORKER)
    assert (ended.state, ended.version, ended.cancel_requested) == (State.SUCCEEDED, "7", False)


async def test_commit_and_cancel_at_the_same_moment_never_both_win(store: JobStore) -> None:
    for number in range(10):
        job = await submit_in(store, State.EVALUATING, f"r{number}")
        committed, cancelled = await asyncio.gather(
            store.commit(job, WORKER), store.request_cancel(job.id)
        )
        assert cancelled.cancel_requested is (committed is None)
        state = State.CANCELLED if committed is None else State.SUCCEEDED
        assert (await store.end(job.ended(state), WORKER)).state is state


async def test_job_that_is_compared_again_can_be_cancelled(store: JobStore) -> None:
    job = await submit_in(store, State.EVALUATING)
    await store.commit(job, WORKER)
    reopened = await store.reopen(job, WORKER)
    assert reopened == job
    assert (await store.request_cancel("r1")).cancel_requested


@pytest.mark.parametrize("state", ENDED)
async def test_cancel_of_an_ended_job_changes_nothing(store: JobStore, state: State) -> None:
    job = await submit_in(store, state)
    assert await store.request_cancel("r1") == job
    assert await store.get("r1") == job
