"""Cancels the jobs of batches whose Airflow run has ended while the job had not.

A run that was marked as failed, deleted or timed out leaves its job behind. The trigger service
notices how the run ended and writes it to its batch. Looking at the batches, instead of being told,
also covers runs that ended while this service was away.
"""

import asyncio
import logging
from collections.abc import Callable

from service_kit.errors import Unavailable
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import JobStore

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


class EndedBatches:
    """Looks for jobs whose batch has failed."""

    def __init__(self, store: JobStore, changes: JobChanges, stop: Callable[[str], None]) -> None:
        """`stop(id)` cancels the job if it runs in this service."""
        self._store = store
        self._changes = changes
        self._stop = stop

    async def run(self) -> None:
        """Look for ever."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("batches were not looked at", extra={"why": str(error)})
            except Exception:
                log.exception("the look at the batches goes on after an error")
            await asyncio.sleep(LOOK_EVERY_S)

    async def look(self) -> None:
        """Cancel the jobs whose batch has failed. Raises Unavailable."""
        for job in await self._store.cancel_jobs_of_failed_batches():
            log.info("cancelled with its batch", extra={"job": job.id, "batch": job.request_id})
            self._stop(job.id)
            self._changes.wake(job.id)
