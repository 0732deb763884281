"""The training jobs in PostgreSQL."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from psycopg2.errors import UndefinedTable
from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from service_kit.database import Database
from service_kit.errors import AlreadyExists, NotFound, Unavailable
from training_svc.jobs.job import Job, Params, Promotion, State

T = TypeVar("T")

SCHEMA = Path(__file__).parent / "sql" / "training_jobs.sql"

_COLUMNS = tuple(field.name for field in fields(Job))
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM mesh.training_jobs"  # noqa: S608  our own names
_JSON = frozenset({"progress", "metrics", "decision", "rows"})
# Columns that the runner may write. The others hold what callers asked for.
_SAVED = tuple(
    name
    for name in _COLUMNS
    if name
    not in {"id", "request_id", "model", "params", "promotion", "created_at", "cancel_requested"}
)


class JobStore(Protocol):
    """Keeps jobs. Every method is idempotent and raises Unavailable when the store is away."""

    async def submit(
        self, model: str, request_id: str, params: Params, promotion: Promotion
    ) -> Job:
        """Add a job, or return the job of that request id. A job that failed or was cancelled is
        returned as its next attempt, queued with the parameters of its first submission.

        Raises NotFound when the model has no training table, AlreadyExists when the request id
        belongs to another model's job.
        """

    async def get(self, any_id: str) -> Job:
        """Return a job by its id, or else by its request id. Raises NotFound."""

    async def list(self, model: str, limit: int) -> Sequence[Job]:
        """Return at most `limit` jobs of a model, newest first.

        Raises NotFound for a model that has neither jobs nor a training table.
        """

    async def unfinished(self) -> Sequence[Job]:
        """Return every job that has not ended: the started ones first, then the queue in order."""

    async def save(self, job: Job) -> None:
        """Write what happened to an attempt of a job; a no-op once the next attempt is queued."""

    async def forget_old(self, days: int) -> None:
        """Delete the jobs that ended more than `days` days ago."""

    async def request_cancel(self, any_id: str) -> Job:
        """Cancel a queued job, or set `cancel_requested` of a started one; return the job.

        A job that has ended is returned as it is. Raises NotFound.
        """


class PostgresJobs:
    """The real JobStore, table mesh.training_jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(
        self, model: str, request_id: str, params: Params, promotion: Promotion
    ) -> Job:
        """See JobStore."""
        new = Job(_new_id(), request_id, model, params=params, promotion=promotion)
        return await self._run(lambda cursor: _submit(cursor, new))

    async def get(self, any_id: str) -> Job:
        """See JobStore."""
        return await self._run(lambda cursor: _get(cursor, any_id))

    async def list(self, model: str, limit: int) -> Sequence[Job]:
        """See JobStore."""
        return await self._run(lambda cursor: _list(cursor, model, limit))

    async def unfinished(self) -> Sequence[Job]:
        """See JobStore."""
        return await self._run(_unfinished)

    async def save(self, job: Job) -> None:
        """See JobStore."""
        await self._run(lambda cursor: _save(cursor, job))

    async def forget_old(self, days: int) -> None:
        """See JobStore."""
        sql = "DELETE FROM mesh.training_jobs WHERE ended_at < now() - make_interval(days => %s)"
        await self._run(lambda cursor: cursor.execute(sql, (days,)))

    async def request_cancel(self, any_id: str) -> Job:
        """See JobStore."""
        return await self._run(lambda cursor: _request_cancel(cursor, any_id))

    async def _run(self, work: Callable[[Cursor], T]) -> T:
        try:
            return await self._database.run(work)
        except UndefinedTable as error:
            # A caller may call before the service has applied its schema.
            raise Unavailable("the training service is starting; try again in a moment") from error


def _new_id() -> str:
    return f"job-{uuid.uuid4().hex[:16]}"


def _submit(cursor: Cursor, new: Job) -> Job:
    cursor.execute(f"{_SELECT} WHERE request_id = %s FOR UPDATE", (new.request_id,))
    job = _one(cursor)
    if job is None:
        _check_has_rows(cursor, new.model)
        cursor.execute(
            "INSERT INTO mesh.training_jobs (id, request_id, model, state, params, promotion)"
            " VALUES (%s, %s, %s, 'QUEUED', %s, %s) ON CONFLICT (request_id) DO NOTHING",
            (new.id, new.request_id, new.model, Json(new.params_as_dict()), new.promotion.value),
        )
        # The new row, or that of another call with the same request id that was quicker.
        cursor.execute(f"{_SELECT} WHERE request_id = %s FOR UPDATE", (new.request_id,))
        job = _one(cursor)
        assert job is not None
    if job.model != new.model:
        raise AlreadyExists(f"request_id: {new.request_id!r} belongs to a training of {job.model}")
    if job.state not in (State.FAILED, State.CANCELLED):
        return job
    again = job.requeued()
    _save(cursor, again)
    cursor.execute(
        "UPDATE mesh.training_jobs SET cancel_requested = false WHERE id = %s", (again.id,)
    )
    return again


def _check_has_rows(cursor: Cursor, model: str) -> None:
    cursor.execute("SELECT to_regclass(format('training.%%I', %s::text)) IS NULL", (model,))
    row = cursor.fetchone()
    if row is None or row[0]:
        raise NotFound(
            f"no training rows of a model {model!r}; import rows first: "
            f"mesh import {model} FILE.csv"
        )


def _get(cursor: Cursor, any_id: str, lock: str = "") -> Job:
    cursor.execute(
        f"{_SELECT} WHERE id = %(id)s OR request_id = %(id)s"
        f" ORDER BY id = %(id)s DESC LIMIT 1 {lock}",
        {"id": any_id},
    )
    job = _one(cursor)
    if job is None:
        raise NotFound(f"no training has the id or request id {any_id!r}")
    return job


def _list(cursor: Cursor, model: str, limit: int) -> list[Job]:
    cursor.execute(
        f"{_SELECT} WHERE model = %s ORDER BY created_at DESC, id LIMIT %s", (model, limit)
    )
    jobs = [_job(row) for row in cursor.fetchall()]
    if not jobs:
        _check_has_rows(cursor, model)
    return jobs


def _unfinished(cursor: Cursor) -> list[Job]:
    cursor.execute(
        f"{_SELECT} WHERE state IN ('QUEUED', 'RUNNING', 'EVALUATING')"
        " ORDER BY state = 'QUEUED', queued_at, id"
    )
    return [_job(row) for row in cursor.fetchall()]


def _save(cursor: Cursor, job: Job) -> None:
    changes = ", ".join(f"{name} = %s" for name in _SAVED)
    values = [_plain(name, getattr(job, name)) for name in _SAVED]
    # A late write of an attempt must not change the row of the next attempt.
    cursor.execute(
        f"UPDATE mesh.training_jobs SET {changes}, updated_at = now()"  # noqa: S608
        " WHERE id = %s AND attempt <= %s",
        (*values, job.id, job.attempt),
    )


def _request_cancel(cursor: Cursor, any_id: str) -> Job:
    job = _get(cursor, any_id, "FOR UPDATE")
    if job.state is State.QUEUED:
        job = job.ended(State.CANCELLED)
        _save(cursor, job)
    elif not job.state.is_final:
        cursor.execute(
            "UPDATE mesh.training_jobs SET cancel_requested = true WHERE id = %s", (job.id,)
        )
        job = replace(job, cancel_requested=True)
    return job


def _one(cursor: Cursor) -> Job | None:
    row = cursor.fetchone()
    return None if row is None else _job(row)


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["state"] = State(values["state"])
    values["promotion"] = Promotion(values["promotion"])
    values["params"] = Params(**values["params"])
    return Job(**values)


def _plain(name: str, value: Any) -> Any:
    if name in _JSON:
        return None if value is None else Json(value)
    return value.value if isinstance(value, State) else value
