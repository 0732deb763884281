"""Answers requests by batches, off the event loop."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence

from inference_svc.batching.job import Batch, Classified, Job, Lane
from inference_svc.batching.text_queue import TextQueue
from inference_svc.batching.tokenizing import Tokenizing
from inference_svc.engines.base import FloatArray
from inference_svc.metrics import exported as metrics
from inference_svc.model.loaded_model import LoadedModel
from service_kit.errors import Exhausted, MeshError

log = logging.getLogger(__name__)


class EngineFailure(MeshError):
    """The engine failed on the batch that held this request; the replica's log has the cause."""


class Batcher:
    """One thread computes, one tokenises beside it; the engine never waits while texts do."""

    def __init__(self, queue: TextQueue, enter_compute_thread: Callable[[], None]) -> None:
        self._queue = queue
        self._enter_compute_thread = enter_compute_thread
        self._tokenizing = Tokenizing(queue.put, self._tokenize_failed, queue.wake)
        self._compute_thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._arrived: list[Job] = []
        self._waiting_for_room: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start computing, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        metrics.QUEUED_TEXTS.set_function(lambda: len(self._queue))
        self._tokenizing.start()
        self._compute_thread.start()

    async def close(self) -> None:
        """Answer what waits, then stop."""
        self._tokenize_arrived()
        await asyncio.to_thread(self._tokenizing.close)
        self._queue.close()
        if self._compute_thread.is_alive():
            await asyncio.to_thread(self._compute_thread.join)

    async def classify(
        self,
        model: LoadedModel,
        texts: Sequence[str],
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> Classified:
        """Answer texts; `deadline` is in seconds of time.monotonic.

        Raises Exhausted when the queue is full or the deadline cannot be met, EngineFailure when
        a batch with one of the texts fails. A cancelled call leaves the queue.
        """
        job = Job(model, texts, lane, deadline, asyncio.get_running_loop().create_future())
        self._queue.admit(job)
        self._tokenize_soon(job)
        try:
            return await job.answer
        except asyncio.CancelledError:
            self._queue.withdraw(job)
            self._wake_waiting()
            raise

    async def classify_when_room(self, model: LoadedModel, texts: Sequence[str]) -> Classified:
        """Answer texts of a bulk job, waiting while the queue is full."""
        while True:
            try:
                return await self.classify(model, texts, Lane.BULK)
            except Exhausted:
                room = asyncio.get_running_loop().create_future()
                self._waiting_for_room.append(room)
                await room

    def _tokenize_soon(self, job: Job) -> None:
        """Hand it over with the others that this turn of the event loop brings.

        One by one they would wake the thread each, and the two would contend for the interpreter.
        """
        if not self._arrived:
            job.answer.get_loop().call_soon(self._tokenize_arrived)
        self._arrived.append(job)

    def _tokenize_arrived(self) -> None:
        arrived, self._arrived = self._arrived, []
        if arrived:
            self._tokenizing.submit(arrived)

    def _tokenize_failed(self, job: Job, error: Exception) -> None:
        self._fail([job], "tokenising failed", error)

    def _run(self) -> None:
        self._enter_compute_thread()
        # A frame that waits must not hold the last batch: its model would stay until the next one.
        while not self._queue.ended:
            self._compute_next()

    def _compute_next(self) -> None:
        """Compute a batch, or tokenise what is to be one."""
        self._tokenizing.catch_up()
        batch = self._queue.take()
        if batch is not None:
            self._compute(batch)

    def _compute(self, batch: Batch) -> None:
        started = time.monotonic()
        error: Exception | None = None
        try:
            _fill_in(batch, batch.model.run([text.tokens for text in batch.texts]))
        except Exception as failure:
            error = failure
        seconds = time.monotonic() - started
        if error is not None:
            self._fail({text.job for text in batch.texts}, "a batch failed", error)
        _account(batch, started, seconds)
        ended = self._queue.complete(batch, seconds)
        self._call_loop(self._deliver, ended)

    def _fail(self, jobs: Sequence[Job] | set[Job], what: str, error: Exception) -> None:
        log.error(what, exc_info=error)
        for job in jobs:
            self._queue.withdraw(job)
        self._call_loop(self._deliver_failure, list(jobs))

    def _call_loop(self, deliver: Callable[[list[Job]], None], jobs: list[Job]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(deliver, jobs)

    def _deliver(self, jobs: list[Job]) -> None:
        for job in jobs:
            if not job.answer.done():
                job.answer.set_result(job.classified())
        self._wake_waiting()

    def _deliver_failure(self, jobs: list[Job]) -> None:
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(
                    EngineFailure("the engine failed on this request; the replica's log says why")
                )
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for room in waiting:
            if not room.done():
                room.set_result(None)


def _fill_in(batch: Batch, scores: FloatArray) -> None:
    """Give every text its part of `scores` [texts, labels]."""
    # For the whole batch at once: on one text each of these calls takes as long.
    best, top = scores.argmax(axis=1).tolist(), scores.max(axis=1).tolist()
    for text, column, score, row in zip(batch.texts, best, top, scores, strict=True):
        text.job.fill_in(text.index, column, score, row)


def _account(batch: Batch, started: float, seconds: float) -> None:
    """Enter a batch into the timing of its requests and into the metrics."""
    texts, pad_waste = len(batch.texts), batch.pad_waste
    for job in {text.job for text in batch.texts}:
        timing = job.timing
        waited_ms = (started - job.arrived) * 1e3 - timing.tokenize_ms
        timing.queue_ms = max(timing.queue_ms, waited_ms)
        timing.compute_ms = max(timing.compute_ms, seconds * 1e3)
        if texts > timing.batch_texts:
            timing.batch_texts, timing.pad_waste = texts, pad_waste
    metrics.BATCH_TEXTS.observe(texts)
    metrics.PAD_WASTE.observe(pad_waste)
    metrics.COMPUTE_SECONDS.observe(seconds)
