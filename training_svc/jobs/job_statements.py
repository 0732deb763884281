"""The SQL of PostgresJobs: each change of a state is one UPDATE that names the states before."""

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from psycopg2.extensions import cursor as Cursor
from psycopg2.extras import Json

from service_kit.errors import Exhausted, NotFound, Unavailable
from training_svc.jobs.job import Job, Params, Promotion, State, Submission
from training_svc.jobs.request_validation import no_training, used_elsewhere

# A worker that has said nothing for so many seconds has lost its job to others.
WORKER_SILENT_S = 30
MAX_QUEUED = 1_000  # jobs of all models together

_COLUMNS = tuple(field.name for field in fields(Job))
_NAMES = ", ".join(_COLUMNS)
_SELECT = f"SELECT {_NAMES} FROM mesh.training_jobs"  # noqa: S608  our own names, as everywhere here
_JSON = frozenset({"progress", "metrics", "decision", "rows"})
# What a job's worker writes beside the state.
_NOTED = ("device", "progress", "run_id", "version", "metrics", "decision", "rows")
_SET_NOTED = ", ".join(f"{name} = %({name})s" for name in _NOTED)
_SEEN = "worker_seen_at = now(), updated_at = now()"
_STARTED = "state IN ('RUNNING', 'EVALUATING')"
_MINE = f"id = %(id)s AND attempt = %(attempt)s AND worker = %(worker)s AND {_STARTED}"


def submit(cursor: Cursor, new_id: str, asked: Submission) -> Job:
    """See JobStore.submit."""
    job = _of_request(cursor, asked.request_id)
    if job is None:
        _check_has_rows(cursor, asked.model)
        _insert(cursor, new_id, asked)
        # The new row, or that of another call with the same request id that was quicker.
        job = _of_request(cursor, asked.request_id)
        assert job is not None
    if job.model != asked.model:
        raise used_elsewhere(asked.request_id)
    if job.cancel_requested and not job.state.is_final:
        raise Unavailable(f"the training {job.id} is being cancelled; submit it again in a moment")
    cursor.execute(
        "UPDATE mesh.training_jobs SET state = 'QUEUED', attempt = attempt + 1, device = '',"  # noqa: S608
        " progress = NULL, run_id = '', version = '', metrics = '{}', decision = NULL,"
        " rows = NULL, error = '', lasting_error = false, cancel_requested = false,"
        " committed = false, worker = '', queued_at = now(), started_at = NULL, ended_at = NULL,"
        " place = nextval('mesh.training_queue'), updated_at = now()"
        f" WHERE id = %s AND state IN ('FAILED', 'CANCELLED') RETURNING {_NAMES}",
        (job.id,),
    )
    return _one(cursor) or job


def _of_request(cursor: Cursor, request_id: str) -> Job | None:
    cursor.execute(f"{_SELECT} WHERE request_id = %s FOR UPDATE", (request_id,))
    return _one(cursor)


def _insert(cursor: Cursor, new_id: str, asked: Submission) -> None:
    cursor.execute("SELECT count(*) FROM mesh.training_jobs WHERE state = 'QUEUED'")
    row = cursor.fetchone()
    if row is not None and row[0] >= MAX_QUEUED:
        raise Exhausted(
            f"{row[0]:,} trainings wait already, at most {MAX_QUEUED:,} may; cancel some, or submit"
            " this one when some have ended",
            retry_after_s=60,
        )
    cursor.execute(
        "INSERT INTO mesh.training_jobs (id, request_id, model, state, params, promotion, serve)"
        " VALUES (%s, %s, %s, 'QUEUED', %s, %s, %s) ON CONFLICT (request_id) DO NOTHING",
        (
            *(new_id, asked.request_id, asked.model, Json(vars(asked.params))),
            *(asked.promotion.value, asked.serve),
        ),
    )


def _check_has_rows(cursor: Cursor, model: str) -> None:
    cursor.execute("SELECT to_regclass(format('training.%%I', %s::text)) IS NULL", (model,))
    row = cursor.fetchone()
    if row is None or row[0]:
        raise NotFound(
            f"no training rows of a model {model!r}; import rows first: "
            f"mesh import {model} FILE.csv"
        )


def get(cursor: Cursor, any_id: str) -> Job:
    """See JobStore.get."""
    cursor.execute(
        f"{_SELECT} WHERE id = %(id)s OR request_id = %(id)s ORDER BY id = %(id)s DESC LIMIT 1",
        {"id": any_id},
    )
    job = _one(cursor)
    if job is None:
        raise no_training(any_id)
    return job


def jobs_of(
    cursor: Cursor, model: str, limit: int, after: tuple[datetime, str] | None
) -> list[Job]:
    """See JobStore.list."""
    behind = " AND (created_at < %(at)s OR created_at = %(at)s AND id > %(id)s)" if after else ""
    at, last_id = after or (None, None)
    cursor.execute(
        f"{_SELECT} WHERE model = %(model)s{behind} ORDER BY created_at DESC, id LIMIT %(limit)s",
        {"model": model, "at": at, "id": last_id, "limit": limit},
    )
    jobs = [_job(row) for row in cursor.fetchall()]
    if not jobs and after is None:
        _check_has_rows(cursor, model)
    return jobs


def unfinished(cursor: Cursor) -> Sequence[Job]:
    """See JobStore.unfinished."""
    cursor.execute(
        f"{_SELECT} WHERE state IN ('QUEUED', 'RUNNING', 'EVALUATING')"
        " ORDER BY state = 'QUEUED', place"
    )
    return [_job(row) for row in cursor.fetchall()]


def take(cursor: Cursor, worker: str) -> Job | None:
    """See JobStore.take."""
    # A time far ahead of now is one that was written before the clock was set back.
    cursor.execute(
        f"UPDATE mesh.training_jobs SET worker = %(worker)s, {_SEEN},"  # noqa: S608
        " started_at = CASE state WHEN 'QUEUED' THEN now() ELSE started_at END,"
        " state = CASE state WHEN 'QUEUED' THEN 'RUNNING' ELSE state END"
        " WHERE id = (SELECT id FROM mesh.training_jobs"
        "   WHERE state = 'QUEUED' OR state IN ('RUNNING', 'EVALUATING') AND"
        "     (worker IN ('', %(worker)s) OR worker_seen_at NOT BETWEEN"
        "      now() - make_interval(secs => %(silent)s)"
        "      AND now() + make_interval(secs => %(silent)s))"
        "   ORDER BY state = 'QUEUED', place LIMIT 1 FOR UPDATE SKIP LOCKED)"
        f" RETURNING {_NAMES}",
        {"worker": worker, "silent": WORKER_SILENT_S},
    )
    return _one(cursor)


def note(cursor: Cursor, job: Job, worker: str) -> Job | None:
    """See JobStore.note."""
    return _update(cursor, f"state = %(state)s, {_SET_NOTED}", "true", job, worker)


def commit(cursor: Cursor, job: Job, worker: str) -> Job | None:
    """See JobStore.commit."""
    changes = f"state = 'EVALUATING', committed = true, {_SET_NOTED}"
    return _update(cursor, changes, "NOT cancel_requested", job, worker)


def reopen(cursor: Cursor, job: Job, worker: str) -> Job | None:
    """See JobStore.reopen."""
    return _update(cursor, "committed = false", "true", job, worker)


def end(cursor: Cursor, job: Job, worker: str) -> Job:
    """See JobStore.end."""
    allowed = {State.SUCCEEDED: "committed", State.CANCELLED: "NOT committed"}
    ended = _update(
        cursor,
        f"state = %(state)s, error = %(error)s, lasting_error = %(lasting_error)s,"
        f" ended_at = now(), {_SET_NOTED}",
        allowed.get(job.state, "true"),
        job,
        worker,
    )
    return ended or get(cursor, job.id)


def _update(cursor: Cursor, changes: str, condition: str, job: Job, worker: str) -> Job | None:
    """Change the row of a job that is the worker's and has not ended; None when it is not so."""
    cursor.execute(
        f"UPDATE mesh.training_jobs SET {changes}, {_SEEN}"  # noqa: S608
        f" WHERE {_MINE} AND {condition} RETURNING {_NAMES}",
        {name: _plain(name, getattr(job, name)) for name in _COLUMNS} | {"worker": worker},
    )
    return _one(cursor)


def forget_old(cursor: Cursor, days: int) -> None:
    """See JobStore.forget_old."""
    cursor.execute(
        "DELETE FROM mesh.training_jobs WHERE state IN ('SUCCEEDED', 'FAILED', 'CANCELLED')"
        " AND ended_at < now() - make_interval(days => %s)",
        (days,),
    )


def request_cancel(cursor: Cursor, any_id: str) -> Job:
    """See JobStore.request_cancel."""
    job = get(cursor, any_id)
    return next(iter(_cancel(cursor, "id = %s", job.id)), None) or get(cursor, job.id)


def cancel_jobs_of_failed_batches(cursor: Cursor) -> Sequence[Job]:
    """See JobStore.cancel_jobs_of_failed_batches."""
    # The trigger service makes its table, in this database, and may not have started yet.
    cursor.execute("SELECT to_regclass('mesh.batches') IS NOT NULL")
    if cursor.fetchone() != (True,):
        return []
    return _cancel(
        cursor,
        "NOT cancel_requested AND EXISTS (SELECT FROM mesh.batches AS batch"
        " WHERE batch.id = training_jobs.request_id AND batch.state = 'FAILED'"
        " AND batch.ended_at > training_jobs.queued_at)",
    )


def _cancel(cursor: Cursor, condition: str, *values: str) -> Sequence[Job]:
    cursor.execute(
        "UPDATE mesh.training_jobs SET cancel_requested = state <> 'QUEUED',"  # noqa: S608
        " updated_at = now(), ended_at = CASE state WHEN 'QUEUED' THEN now() END,"
        " state = CASE state WHEN 'QUEUED' THEN 'CANCELLED' ELSE state END"
        " WHERE state IN ('QUEUED', 'RUNNING', 'EVALUATING') AND NOT committed"
        f" AND {condition} RETURNING {_NAMES}",
        values,
    )
    return [_job(row) for row in cursor.fetchall()]


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
    if name == "params":
        return None
    return value.value if isinstance(value, State | Promotion) else value
