"""The job that this service works on: its newest state, and what ends the work before its time."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from service_kit.errors import Unavailable
from training_svc.jobs.child_process import ChildProcess
from training_svc.jobs.job import Job
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import JobStore

log = logging.getLogger(__name__)

SAVE_INTERVAL_S = 1.0  # least seconds between two writes of progress
# Seconds between two signs of life, and for which a cancel at another service may stay unnoticed.
HEARTBEAT_S = 2.0


class Cancelled(Exception):
    """CancelTraining ended the job."""


class Lost(Exception):
    """Another service has the job now, or the job has ended: nothing more may be done for it."""


class TakenJob:
    """A job that `worker`, this service, has taken."""

    def __init__(self, job: Job, worker: str, store: JobStore, changes: JobChanges) -> None:
        self.job = job
        self.worker = worker
        self.child: ChildProcess | None = None
        # Part of the decision may have been carried out already.
        self.uncertain = job.committed
        self._store = store
        self._changes = changes
        self._cancelled = False
        self._lost = False
        self._noted_at = 0.0
        # Writes come in the order of the states that they write.
        self._writing = asyncio.Lock()

    def cancel(self) -> None:
        """End the work, because a caller cancelled the job."""
        self._cancelled = True
        self._kill_child()

    @property
    def ending(self) -> bool:
        """Whether the work has to end."""
        return self._cancelled or self._lost

    def check(self) -> None:
        """Raise Cancelled or Lost when the work has to end."""
        if self._lost:
            raise Lost
        if self._cancelled:
            raise Cancelled

    def check_lost(self) -> None:
        """Raise Lost when the job is not this service's any more."""
        if self._lost:
            raise Lost

    async def reported(self, report: Mapping[str, Any]) -> None:
        """Take over a report of the child process."""
        self.job = self.job.reported(report)
        await self.note(urgent=report.keys() != {"progress"})

    async def note(self, *, urgent: bool) -> None:
        """Tell the watchers at once, and the store if urgent or SAVE_INTERVAL_S has passed.

        A failed write is skipped, because the end of the job is written until it succeeds.
        """
        self._changes.publish(self.job)
        if urgent or time.monotonic() - self._noted_at >= SAVE_INTERVAL_S:
            self._noted_at = time.monotonic()
            with contextlib.suppress(Unavailable):
                await self._write()

    async def _write(self) -> None:
        async with self._writing:
            stored = await self._store.note(self.job, self.worker)
        if stored is None:
            self._lost = True
            self._kill_child()
        elif stored.cancel_requested:
            self.cancel()

    @asynccontextmanager
    async def kept_alive(self) -> AsyncIterator[None]:
        """Within the block, show that this service is at the job, and look for cancels."""
        beating = asyncio.create_task(self._beat())
        try:
            yield
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            try:
                await self._write()
            except Unavailable as error:
                log.warning("no sign of life", extra={"job": self.job.id, "why": str(error)})

    def _kill_child(self) -> None:
        if self.child is not None:
            self.child.kill()
