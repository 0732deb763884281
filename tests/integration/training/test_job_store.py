"""The rules of a job store, held against PostgreSQL's and against its twin in memory: what is
submitted, and how it is found again."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service_kit.database import Database, apply_schema
from service_kit.errors import AlreadyExists, Exhausted, NotFound, Unavailable
from tests.integration.training.job_stores import ENDED, WORKER, start, submit, submit_in
from tests.unit.training import fakes
from training_svc.jobs import job_statements, job_store
from training_svc.jobs.job import Params, Promotion, State, Submission
from training_svc.jobs.job_store import JobStore, Position, PostgresJobs

PARAMS = Params(base_model="./tiny", epochs=3, learning_rate=1e-3, warm_start=True)
ASKED = Submission("reviews", "r1", PARAMS, Promotion.CHALLENGER_ONLY, serve=True)


async def test_submitted_job_is_queued_with_what_was_asked_for(store: JobStore) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    job = await store.submit(ASKED)
    assert (job.request_id, job.model, job.state, job.attempt) == (
        *("r1", "reviews"),
        *(State.QUEUED, 1),
    )
    assert (job.params, job.promotion, job.serve) == (PARAMS, Promotion.CHALLENGER_ONLY, True)
    assert job.created_at is not None
    assert job.queued_at is not None
    assert before < job.created_at <= job.queued_at
    assert (job.started_at, job.ended_at, job.cancel_requested) == (None, None, False)
    assert await store.get(job.id) == job


async def test_model_without_a_training_table_is_refused(store: JobStore) -> None:
    with pytest.raises(NotFound, match="import rows first: mesh import nobody"):
        await submit(store, model="nobody")
    assert await store.unfinished() == []


@pytest.mark.parametrize("model", ["films", "nobody"])
async def test_request_id_of_another_models_job_is_refused(store: JobStore, model: str) -> None:
    await submit(store, "r1")
    with pytest.raises(AlreadyExists, match="belongs to a training of another model"):
        await submit(store, "r1", model)


async def test_queue_has_a_bound_and_jobs_that_are_known_are_still_found(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (job_statements, fakes):
        monkeypatch.setattr(module, "MAX_QUEUED", 2)
    first = await submit(store, "r1")
    await submit(store, "r2")
    with pytest.raises(Exhausted, match="at most 2"):
        await submit(store, "r3")
    assert await submit(store, "r1") == first


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.EVALUATING, State.SUCCEEDED])
async def test_request_id_of_a_job_that_did_not_fail_returns_it_as_it_is(
    store: JobStore, state: State
) -> None:
    job = await submit_in(store, state)
    assert await store.submit(ASKED) == job


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
async def test_request_id_of_a_job_that_failed_queues_its_next_attempt(
    store: JobStore, state: State
) -> None:
    job = await store.submit(ASKED)
    started = await start(store, "r1")
    await store.note(replace(started, run_id="run", progress={"step": 1}), WORKER)
    await store.request_cancel(job.id)
    await store.end(replace(started, run_id="run").ended(state, "an error", lasting=True), WORKER)
    again = await submit(store)
    assert job.queued_at is not None
    assert again.queued_at is not None
    assert again.queued_at > job.queued_at
    # The parameters are those of the first submission, and nothing of the first attempt is left.
    assert again == replace(job, attempt=2, queued_at=again.queued_at)
    assert await store.get("r1") == again


async def test_calls_with_one_request_id_at_the_same_time_make_one_job(store: JobStore) -> None:
    jobs = await asyncio.gather(*(submit(store) for _ in range(4)))
    assert len({job.id for job in jobs}) == 1
    assert len(await store.unfinished()) == 1


async def test_calls_for_a_failed_job_at_the_same_time_queue_one_attempt(store: JobStore) -> None:
    await submit_in(store, State.FAILED)
    jobs = await asyncio.gather(*(submit(store) for _ in range(4)))
    assert {(job.state, job.attempt) for job in jobs} == {(State.QUEUED, 2)}


async def test_job_is_found_by_its_id_and_by_its_request_id(store: JobStore) -> None:
    job = await submit(store, "r1")
    await submit(store, "r2")
    assert await store.get("r1") == await store.get(job.id) == job


async def test_id_goes_before_a_request_id_of_the_same_text(store: JobStore) -> None:
    first = await submit(store, "r1")
    second = await submit(store, request_id=first.id)
    third = await submit(store, request_id=second.id)
    assert await store.get(first.id) == first
    assert await store.get(second.id) == second
    assert await store.get(third.id) == third


async def test_unknown_id_is_not_found(store: JobStore) -> None:
    await submit(store)
    with pytest.raises(NotFound, match="'nobody'"):
        await store.get("nobody")
    with pytest.raises(NotFound, match="'nobody'"):
        await store.request_cancel("nobody")


async def test_jobs_of_a_model_are_listed_newest_first_page_by_page(store: JobStore) -> None:
    for request_id in ("r1", "r2", "r3"):
        await submit(store, request_id)
    await submit(store, "other", "films")
    assert [job.request_id for job in await store.list("reviews", 10)] == ["r3", "r2", "r1"]
    page = await store.list("reviews", 2)
    assert [job.request_id for job in page] == ["r3", "r2"]
    assert page[-1].created_at is not None
    last = Position(page[-1].created_at, page[-1].id)
    rest = await store.list("reviews", 2, last)
    assert [job.request_id for job in rest] == ["r1"]
    assert rest[0].created_at is not None
    end = Position(rest[0].created_at, rest[0].id)
    assert list(await store.list("reviews", 2, end)) == []


async def test_list_of_a_model_without_jobs_is_empty_and_of_an_unknown_one_is_refused(
    store: JobStore,
) -> None:
    assert list(await store.list("untrained", 10)) == []
    with pytest.raises(NotFound, match="mesh import nobody"):
        await store.list("nobody", 10)


async def test_unfinished_jobs_are_those_once_started_and_then_the_queue(store: JobStore) -> None:
    for state in ENDED:
        await submit_in(store, state, f"{state}")
    for request_id in ("r1", "r2", "r3", "r4"):
        await submit(store, request_id)
    for worker in ("a", "b"):
        await store.take(worker)
    assert [job.request_id for job in await store.unfinished()] == ["r1", "r2", "r3", "r4"]


async def test_next_attempt_queues_behind_the_jobs_that_wait(store: JobStore) -> None:
    await submit_in(store, State.FAILED, "r1")
    await submit(store, "r2")
    await submit(store, "r1")
    assert [job.request_id for job in await store.unfinished()] == ["r2", "r1"]


async def test_jobs_that_ended_long_ago_are_forgotten(store: JobStore) -> None:
    await submit_in(store, State.SUCCEEDED, "ended")
    await submit_in(store, State.RUNNING, "running")
    await store.forget_old(30)
    assert len(await store.list("reviews", 10)) == 2
    await store.forget_old(0)
    assert [job.request_id for job in await store.list("reviews", 10)] == ["running"]


async def test_call_before_the_schema_is_applied_may_be_retried(postgres_url: str) -> None:
    database = Database(postgres_url, "test")
    jobs = PostgresJobs(database)
    with pytest.raises(Unavailable, match="is starting"):
        await submit(jobs)
    await apply_schema(database, "training jobs", job_store.SCHEMA)
    assert await jobs.unfinished() == []
    await database.close()
