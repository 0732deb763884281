"""The rules of a job store, held against PostgreSQL's and against its twin in memory."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service_kit.database import Database, apply_schema
from service_kit.errors import AlreadyExists, NotFound, Unavailable
from tests.real_parts.training_service import import_rows
from tests.unit.training.fakes import MemoryJobs
from training_svc.jobs import job_store
from training_svc.jobs.job import Job, Params, Promotion, State
from training_svc.jobs.job_store import JobStore, PostgresJobs

MODELS = ("reviews", "films", "untrained")  # those that have a training table
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
PARAMS = Params(base_model="./tiny", epochs=3, learning_rate=1e-3, warm_start=True)


@pytest.fixture(params=["memory", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """URL of a fresh database for PostgreSQL's store, None for the twin."""
    if request.param == "memory":
        return None
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def store(database_url: str | None) -> AsyncIterator[JobStore]:
    """An empty store in which the models above are known."""
    if database_url is None:
        yield MemoryJobs(MODELS)
        return
    database = Database(database_url, "test")
    await apply_schema(database, "training jobs", job_store.SCHEMA)
    import_rows(database_url, MODELS[0], [], new=True)
    for model in MODELS[1:]:
        import_rows(database_url, model, [], new=True)
    yield PostgresJobs(database)
    await database.close()


async def submit(store: JobStore, request_id: str = "r1", model: str = "reviews") -> Job:
    return await store.submit(model, request_id, Params(), Promotion.AUTO)


async def submit_in(store: JobStore, state: State, request_id: str = "r1") -> Job:
    """Submit a job and bring it into a state."""
    job = await submit(store, request_id)
    if state in ENDED:
        await store.save(job.started().ended(state))
    elif state is not State.QUEUED:
        await store.save(replace(job.started(), state=state))
    return await store.get(job.id)


async def test_submitted_job_is_queued_with_what_was_asked_for(store: JobStore) -> None:
    before = datetime.now(UTC) - timedelta(minutes=1)
    job = await store.submit("reviews", "r1", PARAMS, Promotion.CHALLENGER_ONLY)
    assert (job.request_id, job.model, job.state, job.attempt) == (
        *("r1", "reviews"),
        *(State.QUEUED, 1),
    )
    assert (job.params, job.promotion) == (PARAMS, Promotion.CHALLENGER_ONLY)
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
    with pytest.raises(AlreadyExists, match="belongs to a training of reviews"):
        await submit(store, "r1", model)


@pytest.mark.parametrize("state", [State.QUEUED, State.RUNNING, State.EVALUATING, State.SUCCEEDED])
async def test_request_id_of_a_job_that_did_not_fail_returns_it_as_it_is(
    store: JobStore, state: State
) -> None:
    job = await submit_in(store, state)
    assert await store.submit("reviews", "r1", PARAMS, Promotion.CHALLENGER_ONLY) == job


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELLED])
async def test_request_id_of_a_job_that_failed_queues_its_next_attempt(
    store: JobStore, state: State
) -> None:
    job = await store.submit("reviews", "r1", PARAMS, Promotion.CHALLENGER_ONLY)
    await store.save(replace(job.started(), run_id="run", progress={"step": 1}))
    await store.request_cancel(job.id)
    await store.save(replace(job.started(), run_id="run").ended(state, "an error"))
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


async def test_jobs_of_a_model_are_listed_newest_first_up_to_the_limit(store: JobStore) -> None:
    for request_id in ("r1", "r2", "r3"):
        await submit(store, request_id)
    await submit(store, "other", "films")
    assert [job.request_id for job in await store.list("reviews", 10)] == ["r3", "r2", "r1"]
    assert [job.request_id for job in await store.list("reviews", 2)] == ["r3", "r2"]


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
    for request_id, state in (("r3", State.EVALUATING), ("r4", State.RUNNING)):
        await store.save(replace((await store.get(request_id)).started(), state=state))
    assert [job.request_id for job in await store.unfinished()] == ["r3", "r4", "r1", "r2"]


async def test_next_attempt_queues_behind_the_jobs_that_wait(store: JobStore) -> None:
    await submit_in(store, State.FAILED, "r1")
    await submit(store, "r2")
    await submit(store, "r1")
    assert [job.request_id for job in await store.unfinished()] == ["r2", "r1"]


async def test_everything_that_happened_to_a_job_is_saved(store: JobStore) -> None:
    job = await submit(store)
    happened = replace(
        job.started(),
        device="cpu (fp32, 1 thread)",
        progress={"step": 5, "total_steps": 9, "loss": 0.25},
        run_id="run",
        version="7",
        metrics={"accuracy": 0.9},
        decision={"outcome": "KEPT", "reason": "not better", "p_value": 0.5},
        rows={"train": 4, "test": 2, "dropped": 1, "digest": "abc"},
    ).ended(State.FAILED, "an error")
    await store.save(happened)
    assert await store.get(job.id) == happened


async def test_saving_changes_nothing_that_the_caller_decided(store: JobStore) -> None:
    job = await submit_in(store, State.RUNNING)
    await store.request_cancel(job.id)
    await store.save(
        replace(
            job,
            request_id="other",
            model="films",
            params=PARAMS,
            promotion=Promotion.CHALLENGER_ONLY,
            created_at=datetime.now(UTC),
            progress={"step": 1},
        )
    )
    expected = replace(job, cancel_requested=True, progress={"step": 1})
    assert await store.get(job.id) == expected


async def test_late_save_of_an_attempt_does_not_touch_the_next_one(store: JobStore) -> None:
    first = await submit_in(store, State.FAILED)
    second = await submit(store)
    await store.save(replace(first, error="late"))
    assert await store.get("r1") == second


async def test_save_of_a_job_that_was_deleted_does_not_bring_it_back(store: JobStore) -> None:
    await store.save(Job("job-gone", "r1", "reviews"))
    with pytest.raises(NotFound):
        await store.get("job-gone")


async def test_jobs_that_ended_long_ago_are_forgotten(store: JobStore) -> None:
    now = datetime.now(UTC)
    for request_id, days in (("old", 31), ("recent", 29)):
        job = await submit_in(store, State.SUCCEEDED, request_id)
        await store.save(replace(job, ended_at=now - timedelta(days=days)))
    await submit_in(store, State.RUNNING, "running")
    await store.forget_old(30)
    assert {job.request_id for job in await store.list("reviews", 10)} == {"recent", "running"}


async def test_cancel_ends_a_queued_job(store: JobStore) -> None:
    await submit(store)
    cancelled = await store.request_cancel("r1")
    assert (cancelled.state, cancelled.cancel_requested) == (State.CANCELLED, False)
    assert cancelled.ended_at is not None
    assert await store.get("r1") == cancelled


@pytest.mark.parametrize("state", [State.RUNNING, State.EVALUATING])
async def test_cancel_of_a_started_job_is_noted(store: JobStore, state: State) -> None:
    job = await submit_in(store, state)
    noted = replace(job, cancel_requested=True)
    assert await store.request_cancel("r1") == noted
    assert await store.get("r1") == noted


@pytest.mark.parametrize("state", ENDED)
async def test_cancel_of_an_ended_job_changes_nothing(store: JobStore, state: State) -> None:
    job = await submit_in(store, state)
    assert await store.request_cancel("r1") == job
    assert await store.get("r1") == job


async def test_call_before_the_schema_is_applied_may_be_retried(postgres_url: str) -> None:
    database = Database(postgres_url, "test")
    jobs = PostgresJobs(database)
    with pytest.raises(Unavailable, match="is starting"):
        await submit(jobs)
    await apply_schema(database, "training jobs", job_store.SCHEMA)
    assert await jobs.unfinished() == []
    await database.close()
