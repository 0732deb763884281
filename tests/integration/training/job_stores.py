"""The two job stores, and jobs in every state, for the tests of a store's rules."""

from dataclasses import replace

from training_svc.jobs.job import Job, State, Submission
from training_svc.jobs.job_store import JobStore

MODELS = ("reviews", "films", "untrained")  # those that have a training table
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
WORKER = "first"
OTHER_WORKER = "second"


async def submit(store: JobStore, request_id: str = "r1", model: str = "reviews") -> Job:
    return await store.submit(Submission(model, request_id))


async def start(store: JobStore, any_id: str) -> Job:
    """Have WORKER take the queued job, which has to be the first of the queue."""
    job = await store.take(WORKER)
    assert job is not None
    assert any_id in (job.id, job.request_id)
    return job


async def submit_in(store: JobStore, state: State, request_id: str = "r1") -> Job:
    """Submit a job, which has to be the only queued one, and bring it into a state."""
    job = await submit(store, request_id)
    if state is State.QUEUED:
        return job
    job = await start(store, request_id)
    if state is State.EVALUATING:
        await store.note(replace(job, state=state), WORKER)
    elif state is State.SUCCEEDED:
        await store.commit(job, WORKER)
    elif state is State.CANCELLED:
        await store.request_cancel(job.id)
    if state in ENDED:
        await store.end(job.ended(state), WORKER)
    stored = await store.get(job.id)
    assert stored.state is state
    return stored
