"""A job is cancelled when the Airflow run of its batch has ended, in both stores."""

from datetime import UTC, datetime

from tests.integration.training.job_stores import WORKER, submit, submit_in
from tests.real_parts.postgres import execute
from tests.unit.training import fakes
from training_svc.jobs.job import State
from training_svc.jobs.job_store import JobStore

BATCHES = """
CREATE SCHEMA IF NOT EXISTS mesh;
CREATE TABLE mesh.batches (id text PRIMARY KEY, state text, ended_at timestamptz)
"""


def note_batch(store: JobStore, database_url: str | None, batch_id: str, state: str) -> None:
    """Write what the trigger service writes when the run of a batch has ended."""
    if database_url is not None:
        values = f"('{batch_id}', '{state}', clock_timestamp())"
        execute(database_url, f"INSERT INTO mesh.batches VALUES {values}")
    elif state == "FAILED":
        assert isinstance(store, fakes.MemoryJobs)
        store.failed_batches[batch_id] = datetime.now(UTC)


async def test_jobs_of_failed_batches_are_cancelled_and_no_others(
    store: JobStore, database_url: str | None
) -> None:
    assert list(await store.cancel_jobs_of_failed_batches()) == []
    if database_url is not None:
        execute(database_url, BATCHES)
    await submit_in(store, State.RUNNING, "runs")
    for batch_id in ("waits", "goes-on", "by-hand", "succeeded"):
        await submit(store, batch_id)
    for batch_id in ("runs", "waits"):
        note_batch(store, database_url, batch_id, "FAILED")
    note_batch(store, database_url, "goes-on", "RUNNING")
    note_batch(store, database_url, "succeeded", "SUCCEEDED")
    cancelled = await store.cancel_jobs_of_failed_batches()
    states = {job.request_id: (job.state, job.cancel_requested) for job in cancelled}
    assert states == {"runs": (State.RUNNING, True), "waits": (State.CANCELLED, False)}
    assert list(await store.cancel_jobs_of_failed_batches()) == []


async def test_attempt_that_was_submitted_after_its_batch_had_failed_is_not_cancelled(
    store: JobStore, database_url: str | None
) -> None:
    if database_url is not None:
        execute(database_url, BATCHES)
    await submit_in(store, State.FAILED)
    note_batch(store, database_url, "r1", "FAILED")
    assert (await submit(store)).attempt == 2
    assert list(await store.cancel_jobs_of_failed_batches()) == []


async def test_committed_job_of_a_failed_batch_goes_on(
    store: JobStore, database_url: str | None
) -> None:
    if database_url is not None:
        execute(database_url, BATCHES)
    job = await submit_in(store, State.EVALUATING)
    await store.commit(job, WORKER)
    note_batch(store, database_url, "r1", "FAILED")
    assert list(await store.cancel_jobs_of_failed_batches()) == []
