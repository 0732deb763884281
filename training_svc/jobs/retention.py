"""Bounds the versions that trainings register, their MLflow runs, and the rows of ended jobs."""

import logging
import time

from service_kit.errors import MeshError, Unavailable
from service_kit.model_registry.expired_versions import expired_versions
from service_kit.model_registry.records import ModelVersion
from service_kit.model_registry.registry import Registry
from training_svc.jobs.job_store import JobStore

log = logging.getLogger(__name__)

# Days for which a job that has ended can still be looked up, and for which the run of a training
# stays in MLflow when no version refers to it.
KEEP_DAYS = 30
# More old runs than these are deleted after the next jobs.
MOST_RUNS = 100
_DAY_MS = 86_400_000


class Retention:
    """Applied after each job. A failure is logged; the next job's end tries again."""

    def __init__(self, registry: Registry, store: JobStore, keep_versions: int) -> None:
        self._registry = registry
        self._store = store
        self._keep_versions = keep_versions

    async def apply(self, model: str) -> None:
        """Delete the versions and runs of a model that nothing keeps, and the rows of old jobs."""
        try:
            await self._store.forget_old(KEEP_DAYS)
            await self._delete_versions(model)
            await self._delete_runs(model)
        except MeshError as error:
            log.warning(
                "old versions, runs and jobs stay until the next job ends",
                extra={"why": str(error)},
            )

    async def _delete_versions(self, model: str) -> None:
        registered = await self._registry.find_model(model)
        if registered is None:
            return
        for version in await expired_versions(self._registry, registered, self._keep_versions):
            await self._delete_version(version)

    async def _delete_version(self, version: ModelVersion) -> None:
        names = {"model": version.name, "version": version.version}
        try:
            await self._registry.delete_version(version)
        except Unavailable:
            raise
        except MeshError as error:
            # The others go nevertheless.
            log.warning("an old version cannot be deleted", extra={**names, "why": str(error)})
        else:
            log.info("version deleted", extra=names)

    async def _delete_runs(self, model: str) -> None:
        before_ms = int(time.time() * 1000) - KEEP_DAYS * _DAY_MS
        for run_id in await self._registry.runs.unused(model, before_ms, MOST_RUNS):
            await self._registry.runs.delete(run_id)
            log.info("run deleted", extra={"model": model, "run": run_id})
