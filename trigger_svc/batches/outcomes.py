"""What followed from a batch: its training job and version, and when the fleet served it."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg2.extensions import cursor as Cursor

from service_kit.database import Database
from service_kit.errors import MeshError
from service_kit.model_registry.records import TAG_FIRST_ANSWER_AT, TAG_RELOADED_AT
from service_kit.model_registry.registry import Registry
from trigger_svc.batches.batch import Batch
from trigger_svc.database.queries import QUERIES

REGISTRY_TIMEOUT_S = 3.0  # for the versions of all batches of one call together
KEPT_OUTCOMES = 10_000
_FAILED = ("FAILED", "CANCELLED")
_REGISTRY_CALLS = 8  # to MLflow at the same time, for one call


@dataclass(frozen=True)
class Outcome:
    """What followed from a batch; a field is empty or None until its event has happened."""

    training_id: str = ""
    version: str = ""
    training_error: str = ""
    """Why the job failed; empty unless it did."""
    trained: bool = False
    """The job has succeeded."""
    reloaded_at: datetime | None = None
    first_answer_at: datetime | None = None


class BatchOutcomes:
    """Reads training jobs from PostgreSQL and times from MLflow's tags."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        # Outcomes with both times, by batch id and key: they never change again.
        self._complete: dict[tuple[str, str], Outcome] = {}

    async def of(self, batches: Iterable[Batch]) -> Mapping[str, Outcome]:
        """Return the outcomes of these batches that have a training job, by batch id.

        Raises Unavailable when PostgreSQL is away; while MLflow is away, times are left out.
        """
        wanted = {batch.id: batch for batch in batches}
        ids = list(wanted)
        complete = {
            batch.id: self._complete[batch.id, batch.key]
            for batch in wanted.values()
            if (batch.id, batch.key) in self._complete
        }
        jobs = await self._jobs([name for name in ids if name not in complete])
        limit = asyncio.Semaphore(_REGISTRY_CALLS)
        tasks = {
            name: asyncio.create_task(self._with_times(limit, wanted[name].model, outcome))
            for name, outcome in jobs.items()
            if outcome.version
        }
        if tasks:
            _, late = await asyncio.wait(tasks.values(), timeout=REGISTRY_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        timed = {name: task.result() for name, task in tasks.items() if not task.cancelled()}
        self._complete |= {
            (name, wanted[name].key): outcome
            for name, outcome in timed.items()
            if outcome.reloaded_at and outcome.first_answer_at
        }
        for oldest in list(self._complete)[:-KEPT_OUTCOMES]:
            del self._complete[oldest]
        return complete | jobs | timed

    async def _jobs(self, ids: list[str]) -> dict[str, Outcome]:
        def work(cursor: Cursor) -> dict[str, Outcome]:
            cursor.execute(QUERIES["has_training_jobs"])
            if cursor.fetchone() != (True,):
                return {}
            cursor.execute(QUERIES["find_jobs"], {"ids": ids})
            return {
                name: Outcome(job, version, error if state in _FAILED else "", state == "SUCCEEDED")
                for name, job, version, state, error in cursor.fetchall()
            }

        return await self._database.run(work, "reading training jobs") if ids else {}

    async def _with_times(self, limit: asyncio.Semaphore, model: str, outcome: Outcome) -> Outcome:
        async with limit:
            try:
                tags = (await self._registry.get_version(model, outcome.version)).tags
            except MeshError:
                return outcome  # MLflow is away, or the version was deleted
        return replace(
            outcome,
            reloaded_at=_time(tags.get(TAG_RELOADED_AT)),
            first_answer_at=_time(tags.get(TAG_FIRST_ANSWER_AT)),
        )


def _time(value: str | None) -> datetime | None:
    try:
        return datetime.fromisoformat(value) if value else None
    except ValueError:
        return None
