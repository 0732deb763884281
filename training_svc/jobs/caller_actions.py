"""The actions that callers have on training jobs; knows nothing of gRPC."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress

from service_kit.errors import Unavailable
from service_kit.limits import check_model_name, check_request_id
from service_kit.model_registry.registry import Registry
from training_svc.jobs.job import Job, Params, Promotion
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import JobStore
from training_svc.jobs.request_validation import check_job_id, check_limit, check_params

log = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.2  # least seconds between two messages to one watcher
# Seconds that a cancel waits for the end of its job; killing the child takes far less.
CANCEL_TIMEOUT_S = 10.0


class CallerActions:
    """Submits, shows, lists, watches and cancels training jobs."""

    def __init__(
        self,
        store: JobStore,
        changes: JobChanges,
        registry: Registry,
        wake: Callable[[], None],
        stop: Callable[[str], None],
    ) -> None:
        """`wake()` tells the runner that a job is queued, `stop(id)` to cancel that job."""
        self._store = store
        self._changes = changes
        self._registry = registry
        self._wake = wake
        self._stop = stop

    async def submit(
        self, model: str, request_id: str, params: Params, promotion: Promotion
    ) -> Job:
        """Submit a training job. A request id that has a job returns that job, or queues its next
        attempt when it failed or was cancelled, with the parameters of its first submission.

        Raises InvalidArgument, NotFound, AlreadyExists or Unavailable.
        """
        check_model_name(model)
        request_id = check_request_id(request_id)
        job = await self._store.submit(model, request_id, check_params(params), promotion)
        live = self._changes.live(job.id)
        if live is not None and live.attempt == job.attempt:
            return live
        if not job.state.is_final:
            self._changes.publish(job)
            self._wake()
            await self._register_model(model)
        return job

    async def get(self, any_id: str) -> Job:
        """Return a job by its id or its request id. Raises InvalidArgument or NotFound."""
        job = await self._store.get(check_job_id(any_id))
        return self._newest(job)

    async def list(self, model: str, limit: int) -> Sequence[Job]:
        """Return jobs of a model, newest first. Raises InvalidArgument or NotFound."""
        jobs = await self._store.list(check_model_name(model), check_limit(limit))
        return [self._newest(job) for job in jobs]

    async def cancel(self, any_id: str) -> Job:
        """Cancel a job and return it as it ended; a job that had ended already stays as it is.

        A job that has not ended after CANCEL_TIMEOUT_S is returned as it is then.
        """
        job = await self._store.request_cancel(check_job_id(any_id))
        if job.state.is_final:
            self._changes.publish(job)
            return job
        self._stop(job.id)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                async for newer in self.watch(job.id):
                    job = newer
        return job

    async def watch(self, any_id: str) -> AsyncGenerator[Job, None]:
        """Yield the job as it is, then after each change, until it has ended."""
        job = await self.get(any_id)
        with self._changes.watching(job.id) as changed:
            while True:
                yield job
                if job.state.is_final:
                    return
                job = await self._next(job, changed)

    async def _next(self, shown: Job, changed: asyncio.Event) -> Job:
        while True:
            # Cleared before the job is read, so that a change while it is read is not missed.
            changed.clear()
            job = self._changes.live(shown.id) or await self._store.get(shown.id)
            if job != shown:
                return job
            if self._changes.closed:
                raise Unavailable("the training service is stopping; watch again in a moment")
            await changed.wait()
            await asyncio.sleep(WATCH_INTERVAL_S)

    def _newest(self, job: Job) -> Job:
        live = self._changes.live(job.id)
        # Before a job ends, the store lags behind the live state; its end is written first.
        return job if live is None or job.state.is_final else live

    async def _register_model(self, model: str) -> None:
        """Register the model with MLflow, so that it exists before its first version does."""
        try:
            await self._registry.ensure_model(model)
        except Unavailable as error:
            log.warning("the child process will register the model", extra={"why": str(error)})
