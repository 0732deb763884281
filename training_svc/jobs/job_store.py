"""Where the training jobs are kept. Every change of a job's state is one compare-and-set."""

import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from psycopg2.errors import UndefinedColumn, UndefinedTable
from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import Unavailable
from training_svc.jobs import job_statements as statements
from training_svc.jobs.job import Job, Submission

T = TypeVar("T")

SCHEMA = Path(__file__).parent / "sql" / "training_jobs.sql"


class Position(NamedTuple):
    """A place in the list of a model's jobs: that of the job with these values."""

    created_at: datetime
    id: str


class JobStore(Protocol):
    """Keeps jobs. Every method is idempotent and raises Unavailable when the store is away.

    `worker` names a training service. Only the worker that has taken a job writes what happens to
    it. A worker that is silent for job_statements.WORKER_SILENT_S seconds loses its job to others.
    """

    async def submit(self, asked: Submission) -> Job:
        """Add a job, or return the job of that request id. A job that failed or was cancelled is
        returned as its next attempt, queued with the parameters of its first submission.

        Raises NotFound when the model has no training table, AlreadyExists when the request id
        belongs to another model's job, Exhausted when the queue is full, and Unavailable while the
        job is being cancelled.
        """

    async def get(self, any_id: str) -> Job:
        """Return a job by its id, or else by its request id. Raises NotFound."""

    async def list(self, model: str, limit: int, after: Position | None = None) -> Sequence[Job]:
        """Return at most `limit` jobs of a model, newest first, from the one behind `after` on.

        Raises NotFound for a model that has neither jobs nor a training table.
        """

    async def unfinished(self) -> Sequence[Job]:
        """Return every job that has not ended: the started ones first, then the queue in order."""

    async def take(self, worker: str) -> Job | None:
        """Return the job that `worker` is to work on next, as started; None when there is none.

        First a job that the worker itself, or a worker that has gone silent, was at when it
        stopped; then the first of the queue. No two workers get the same job.
        """

    async def note(self, job: Job, worker: str) -> Job | None:
        """Write how far a job is, and that its worker is still there; return the job as stored.

        None, and nothing is written, when the job is not the worker's (any more), has ended, or is
        in a later attempt.
        """

    async def commit(self, job: Job, worker: str) -> Job | None:
        """Note the job's decision and make it `committed`; return the job as stored.

        None when a caller has cancelled the job, and as for `note`.
        """

    async def reopen(self, job: Job, worker: str) -> Job | None:
        """Take `committed` back: nothing of the decision was carried out. None as for `note`."""

    async def end(self, job: Job, worker: str) -> Job:
        """Write the end of a job and return it as stored.

        Only a committed job can succeed, and it cannot be CANCELLED. What is not the worker's job,
        or has ended already, is returned as it is.
        """

    async def forget_old(self, days: int) -> None:
        """Delete the jobs that ended more than `days` days ago."""

    async def request_cancel(self, any_id: str) -> Job:
        """Cancel a queued job, or set `cancel_requested` of a started one; return the job.

        A job that is committed or has ended is returned as it is. Raises NotFound.
        """

    async def cancel_jobs_of_failed_batches(self) -> Sequence[Job]:
        """Cancel, as request_cancel does, each job whose batch has failed since the job's attempt
        was queued; return the jobs that changed."""


class PostgresJobs:
    """The real JobStore, table mesh.training_jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(self, asked: Submission) -> Job:
        """See JobStore."""
        new_id = f"job-{uuid.uuid4().hex[:16]}"
        return await self._run(lambda cursor: statements.submit(cursor, new_id, asked))

    async def get(self, any_id: str) -> Job:
        """See JobStore."""
        return await self._run(lambda cursor: statements.get(cursor, any_id))

    async def list(self, model: str, limit: int, after: Position | None = None) -> Sequence[Job]:
        """See JobStore."""
        return await self._run(lambda cursor: statements.jobs_of(cursor, model, limit, after))

    async def unfinished(self) -> Sequence[Job]:
        """See JobStore."""
        return await self._run(statements.unfinished)

    async def take(self, worker: str) -> Job | None:
        """See JobStore."""
        return await self._run(lambda cursor: statements.take(cursor, worker))

    async def note(self, job: Job, worker: str) -> Job | None:
        """See JobStore."""
        return await self._run(lambda cursor: statements.note(cursor, job, worker))

    async def commit(self, job: Job, worker: str) -> Job | None:
        """See JobStore."""
        return await self._run(lambda cursor: statements.commit(cursor, job, worker))

    async def reopen(self, job: Job, worker: str) -> Job | None:
        """See JobStore."""
        return await self._run(lambda cursor: statements.reopen(cursor, job, worker))

    async def end(self, job: Job, worker: str) -> Job:
        """See JobStore."""
        return await self._run(lambda cursor: statements.end(cursor, job, worker))

    async def forget_old(self, days: int) -> None:
        """See JobStore."""
        await self._run(lambda cursor: statements.forget_old(cursor, days))

    async def request_cancel(self, any_id: str) -> Job:
        """See JobStore."""
        return await self._run(lambda cursor: statements.request_cancel(cursor, any_id))

    async def cancel_jobs_of_failed_batches(self) -> Sequence[Job]:
        """See JobStore."""
        return await self._run(statements.cancel_jobs_of_failed_batches)

    async def _run(self, work: Callable[[Cursor], T]) -> T:
        try:
            return await self._database.run(work)
        except (UndefinedTable, UndefinedColumn) as error:
            # A caller may call before the service has applied its schema.
            raise Unavailable("the training service is starting; try again in a moment") from error
