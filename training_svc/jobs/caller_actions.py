"""The actions that callers have on training jobs; knows nothing of gRPC."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime

from service_kit.errors import InvalidArgument, Unavailable
from service_kit.limits import check_model_name, check_request_id
from service_kit.model_registry.registry import Registry
from service_kit.page_tokens import check_page_size, decode_page_token, encode_page_token
from training_svc.base_models.allow_list import PACKAGED_ONLY, BaseModels
from training_svc.jobs.job import Job, State, Submission
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import JobStore, Position
from training_svc.jobs.request_validation import check_job_id, check_params

log = logging.getLogger(__name__)

WATCH_INTERVAL_S = 0.2  # least seconds between two messages to one watcher
# Seconds that a cancel waits for the end of its job; killing the child takes far less.
CANCEL_TIMEOUT_S = 10.0
# Seconds between two looks of a watcher at a job that no change here tells about: another service
# may be at it.
LOOK_EVERY_S = 2.0
# Seconds after which a watcher is sent a job again that has not changed, so that Envoy sees that
# the stream is in use.
REPEAT_S = 15.0


class CallerActions:
    """Submits, shows, lists, watches and cancels training jobs."""

    def __init__(
        self,
        store: JobStore,
        changes: JobChanges,
        registry: Registry,
        wake: Callable[[], None],
        stop: Callable[[str], None],
        max_examples: int,
        base_models: BaseModels = PACKAGED_ONLY,
    ) -> None:
        """`wake()` tells the runner that a job is queued, `stop(id)` to cancel that job.

        `max_examples` holds for submissions that leave it to the service; `base_models` lists what
        they may start from.
        """
        self._store = store
        self._changes = changes
        self._registry = registry
        self._wake = wake
        self._stop = stop
        self._max_examples = max_examples
        self._base_models = base_models

    async def submit(self, asked: Submission) -> Job:
        """Submit a training job. A request id that has a job returns that job, or queues its next
        attempt when it failed or was cancelled, with the parameters of its first submission.

        Raises InvalidArgument, NotFound, AlreadyExists, Exhausted or Unavailable.
        """
        check_model_name(asked.model)
        params = check_params(asked.params, self._base_models)
        asked = replace(
            asked,
            request_id=check_request_id(asked.request_id),
            params=replace(params, max_examples=params.max_examples or self._max_examples),
        )
        job = self._newest(await self._store.submit(asked))
        if job.state is State.QUEUED:
            self._changes.wake(job.id)
            self._wake()
            await self._register_model(job.model)
        return job

    async def get(self, any_id: str) -> Job:
        """Return a job by its id or its request id. Raises InvalidArgument or NotFound."""
        job = await self._store.get(check_job_id(any_id))
        return self._newest(job)

    async def list(
        self, model: str, page_size: int, token: str, limit: int = 0
    ) -> tuple[Sequence[Job], str]:
        """Return a page of a model's jobs, newest first, and the token of the next page.

        `limit` is the older name of `page_size`, which goes before it.

        Raises InvalidArgument or NotFound.
        """
        size = check_page_size(page_size) if page_size else check_page_size(limit, "limit")
        query = f"ListTrainings {check_model_name(model)}"
        after = _position(decode_page_token(token, query))
        # One more than asked for tells whether there is a next page.
        jobs = await self._store.list(model, size + 1, after)
        page = [self._newest(job) for job in jobs[:size]]
        if len(jobs) <= size:
            return page, ""
        return page, encode_page_token(query, f"{jobs[size - 1].created_at} {page[-1].id}")

    async def cancel(self, any_id: str) -> Job:
        """Cancel a job and return it as it ended; a job that had ended already stays as it is, and
        so does one whose decision is being carried out: it ends by itself.

        A job that has not ended after CANCEL_TIMEOUT_S is returned as it is then.
        """
        job = await self._store.request_cancel(check_job_id(any_id))
        if job.state.is_final:
            self._changes.publish(job)
            return job
        if job.cancel_requested:
            self._stop(job.id)
        with suppress(TimeoutError):
            async with asyncio.timeout(CANCEL_TIMEOUT_S):
                async for newer in self.watch(job.id):
                    job = newer
        return job

    async def watch(self, any_id: str) -> AsyncGenerator[Job, None]:
        """Yield the job as it is, then after each change and every REPEAT_S, until it has ended."""
        job = await self.get(any_id)
        with self._changes.watching(job.id) as changed:
            while True:
                yield job
                if job.state.is_final:
                    return
                job = await self._next(job, changed)

    async def _next(self, shown: Job, changed: asyncio.Event) -> Job:
        repeat_at = time.monotonic() + REPEAT_S
        while True:
            # Cleared before the job is read, so that a change while it is read is not missed.
            changed.clear()
            job = self._changes.live(shown.id) or await self._store.get(shown.id)
            if job != shown or time.monotonic() >= repeat_at:
                return job
            if self._changes.closed:
                raise Unavailable("the training service is stopping; watch again in a moment")
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_EVERY_S)
                await asyncio.sleep(WATCH_INTERVAL_S)

    def _newest(self, job: Job) -> Job:
        live = self._changes.live(job.id)
        # Before a job ends, the store lags behind the live state; its end is written first.
        if live is None or job.state.is_final or live.attempt != job.attempt:
            return job
        return live

    async def _register_model(self, model: str) -> None:
        """Register the model with MLflow, so that it exists before its first version does."""
        try:
            await self._registry.ensure_model(model)
        except Unavailable as error:
            log.warning("the child process will register the model", extra={"why": str(error)})


def _position(text: str) -> Position | None:
    """The place that a page token names, None for the beginning. Raises InvalidArgument."""
    if not text:
        return None
    created_at, _, job_id = text.rpartition(" ")
    try:
        return Position(datetime.fromisoformat(created_at), job_id)
    except ValueError as error:
        raise InvalidArgument("page_token", "is not a token of this list") from error
