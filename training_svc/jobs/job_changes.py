"""Tells watchers that a job has changed."""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from training_svc.jobs.job import Job


class JobChanges:
    """The newest state of the job under way, and an event a watcher."""

    def __init__(self) -> None:
        self.closed = False
        self._live: dict[str, Job] = {}
        self._watchers: dict[str, set[asyncio.Event]] = defaultdict(set)

    def publish(self, job: Job) -> None:
        """Wake the job's watchers. Until it is final its state is kept: the store lags behind."""
        if job.state.is_final:
            self._live.pop(job.id, None)
        else:
            self._live[job.id] = job
        for event in self._watchers.get(job.id, ()):
            event.set()

    def live(self, job_id: str) -> Job | None:
        """The newest state of a job that has not ended, if it is known here."""
        return self._live.get(job_id)

    @contextmanager
    def watching(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set on each change, for the length of the block."""
        event = asyncio.Event()
        self._watchers[job_id].add(event)
        try:
            yield event
        finally:
            self._watchers[job_id].discard(event)
            if not self._watchers[job_id]:
                del self._watchers[job_id]

    def watchers(self) -> int:
        """How many there are."""
        return sum(len(events) for events in self._watchers.values())

    def close(self) -> None:
        """Wake every watcher for the last time."""
        self.closed = True
        for events in self._watchers.values():
            for event in events:
                event.set()
