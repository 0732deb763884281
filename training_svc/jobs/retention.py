"""Bounds the versions that trainings register, and the rows of ended jobs."""

import logging

from service_kit.errors import MeshError
from service_kit.model_registry.expired_versions import expired_versions
from service_kit.model_registry.registry import Registry
from training_svc.jobs.job_store import JobStore

log = logging.getLogger(__name__)

KEEP_DAYS = 30  # days for which a job that has ended can still be looked up


class Retention:
    """Applied after each job. A failure is logged; the next job's end tries again."""

    def __init__(self, registry: Registry, store: JobStore, keep_versions: int) -> None:
        self._registry = registry
        self._store = store
        self._keep_versions = keep_versions

    async def apply(self, model: str) -> None:
        """Delete the versions of a model that nothing keeps, and the rows of old jobs."""
        try:
            await self._store.forget_old(KEEP_DAYS)
            registered = await self._registry.find_model(model)
            if registered is None:
                return
            for version in await expired_versions(self._registry, registered, self._keep_versions):
                await self._registry.delete_version(version)
                log.info("version deleted", extra={"model": model, "version": version.version})
        except MeshError as error:
            log.warning(
                "old versions and jobs stay until the next job ends", extra={"why": str(error)}
            )
