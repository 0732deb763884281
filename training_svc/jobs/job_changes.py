"""Tells watchers that a job has changed."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from training_svc.jobs.job import Job


class JobChanges:
    """Keeps the newest state of the job that runs here, and one event for each watcher."""

    def __init__(self) -> None:
        self.closed = False
        self._live: dict[str, Job] = {}
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, job: Job) -> None:
        """Wake the job's watchers, and keep its state until it has ended: the store lags behind."""
        if job.state.is_final:
            self._live.pop(job.id, None)
        else:
            self._live[job.id] = job
        self.wake(job.id)

    def live(self, job_id: str) -> Job | None:
        """The newest published state of a job that has not ended, or None."""
        return self._live.get(job_id)

    def wake(self, job_id: str) -> None:
        """Wake the job's watchers, who then read the store."""
        for event in self._watchers.get(job_id, ()):
            event.set()

    def forget(self, job_id: str) -> None:
        """Drop the live state of a job that does not run here any more."""
        self._live.pop(job_id, None)
        self.wake(job_id)

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """Within the block, an event that is set on each change of the job."""
        event = asyncio.Event()
        self._watchers[job_id].add(event)
        try:
            yield event
        finally:
            self._watchers[job_id].discard(event)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def watchers(self) -> int:
        """The number of watchers."""
        return sum(len(events) for events in self._watchers.values())

    def close(self) -> None:
        """Mark the service as stopping and wake every watcher for the last time."""
        self.closed = True
        for events in self._watchers.values():
            for event in events:
                event.set()
