"""What became of a batch: its training job and version, and when the fleet served it."""

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

REGISTRY_TIMEOUT_S = 3.0  # for all versions of one call together
KEPT_OUTCOMES = 10_000
_AT_ONCE = 8


@dataclass(frozen=True)
class Outcome:
    """What is known of a batch beyond mesh.batches; empty or None while it is not."""

    training_id: str = ""
    version: str = ""
    reloaded_at: datetime | None = None
    first_answer_at: datetime | None = None


class Timeline:
    """Reads training jobs from PostgreSQL and times from MLflow's tags."""

    def __init__(self, database: Database, registry: Registry) -> None:
        self._database = database
        self._registry = registry
        # Both times never change once they are there.
        self._complete: dict[str, Outcome] = {}

    async def outcomes(self, batches: Iterable[Batch]) -> Mapping[str, Outcome]:
        """Return what is known of these batches by their ids.

        Raises Unavailable when PostgreSQL is away; while MLflow is away, times are left out.
        """
        models = {batch.id: batch.model for batch in batches}
        ids = list(models)
        known = {name: self._complete[name] for name in ids if name in self._complete}
        jobs = await self._jobs([name for name in ids if name not in known])
        limit = asyncio.Semaphore(_AT_ONCE)
        timed = {
            name: asyncio.create_task(self._timed(limit, models[name], outcome))
            for name, outcome in jobs.items()
            if outcome.version
        }
        if timed:
            _, late = await asyncio.wait(timed.values(), timeout=REGISTRY_TIMEOUT_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        found = {name: task.result() for name, task in timed.items() if not task.cancelled()}
        self._complete |= {
            name: outcome
            for name, outcome in found.items()
            if outcome.reloaded_at and outcome.first_answer_at
        }
        for name in list(self._complete)[:-KEPT_OUTCOMES]:
            del self._complete[name]
        return known | jobs | found

    async def _jobs(self, ids: list[str]) -> dict[str, Outcome]:
        def work(cursor: Cursor) -> dict[str, Outcome]:
            cursor.execute(QUERIES["has_training_jobs"])
            if cursor.fetchone() != (True,):
                return {}
            cursor.execute(QUERIES["find_jobs"], {"ids": ids})
            return {name: Outcome(job, version) for name, job, version in cursor.fetchall()}

        return await self._database.run(work) if ids else {}

    async def _timed(self, limit: asyncio.Semaphore, model: str, outcome: Outcome) -> Outcome:
        async with limit:
            try:
                tags = (await self._registry.get_version(model, outcome.version)).tags
            except MeshError:
                return outcome  # away, or the version was deleted: the times stay unknown
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
