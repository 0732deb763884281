"""Keeps what trainings leave behind from growing without end: versions, and rows of old jobs."""

import logging

from service_kit.errors import MeshError
from service_kit.model_registry.registry import Registry
from service_kit.model_registry.retention import expired_versions
from training_svc.jobs.job_store import JobStore

log = logging.getLogger(__name__)

KEEP_DAYS = 30  # how long a job that has ended can be asked for


class Retention:
    """Applied after each job; a failure is logged, and mended after the next job."""

    def __init__(self, registry: Registry, store: JobStore, keep_versions: int) -> None:
        self._registry = registry
        self._store = store
        self._keep_versions = keep_versions

    async def apply(self, model: str) -> None:
        """Delete the versions of a model that nothing keeps, and the rows of old jobs."""
        try:
            await self._store.forget_old(KEEP_DAYS)
            found = await self._registry.find_model(model)
            if found is None:
                return
            for version in await expired_versions(self._registry, found, self._keep_versions):
                await self._registry.delete_version(version)
                log.info("version deleted", extra={"model": model, "version": version.version})
        except MeshError as error:
            log.warning("nothing is tidied up this time", extra={"why": str(error)})
