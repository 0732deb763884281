"""Answers requests in batches that threads compute, off the event loop."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Sequence

from inference_svc.batching.batch_run import run_batch
from inference_svc.batching.job import Batch, Classified, Job, Lane
from inference_svc.batching.text_queue import TextQueue
from inference_svc.batching.tokenizing import tokenize
from inference_svc.metrics import exported as metrics
from inference_svc.model.loaded_model import LoadedModel
from service_kit.errors import Exhausted, MeshError, Unavailable

log = logging.getLogger(__name__)


# Why a model is withdrawn; the control plane and callers read it.
FAILING = "its computations fail"
# How long the threads get to end when the batcher closes, seconds.
CLOSE_S = 30.0


class EngineFailure(MeshError):
    """The engine failed on a text of this request; the replica's log says why."""


class ModelFailed(Unavailable):
    """The model's computations fail on this replica; another replica may answer the request."""


class Batcher:
    """Answers requests with two threads: one tokenises and computes, one tokenises beside it."""

    def __init__(
        self,
        queue: TextQueue,
        enter_compute_thread: Callable[[], None],
        check: Callable[[LoadedModel], None],
    ) -> None:
        """The thread that computes calls both functions: `enter_compute_thread` once, and `check`
        after a failure: it raises an error when a model does not answer texts that are known to
        work.
        """
        self.queue = queue
        self.model_failed: Callable[[LoadedModel, str], None] = lambda model, why: None
        """Called on the event loop when a model computes nothing any more; the queue refuses its
        texts by then."""
        self._enter_compute_thread = enter_compute_thread
        self._check = check
        self._batches = 0
        self._computing = False
        self._threads = (
            threading.Thread(target=self._run_compute, name="compute", daemon=True),
            threading.Thread(target=self._run_tokenize, name="tokenize", daemon=True),
        )
        self._progressed_at = time.monotonic()
        self._announcing = False
        self._waiting_for_room: list[asyncio.Future[None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Start computing, for the running event loop."""
        self._loop = asyncio.get_running_loop()
        metrics.QUEUED_TEXTS.set_function(lambda: len(self.queue))
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """Answer the texts that wait, then stop."""
        self.queue.close()
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, CLOSE_S)

    @property
    def threads_work(self) -> bool:
        """Whether both threads are there, which they are from `start` to `close`."""
        return all(thread.is_alive() for thread in self._threads)

    @property
    def computing(self) -> int:
        """Number of the batch that is being computed, from 1; 0: none is."""
        return self._batches if self._computing else 0

    def progressed(self, seconds: float) -> bool:
        """Return whether a batch has ended within this time, or there is nothing to do."""
        return not len(self.queue) or time.monotonic() - self._progressed_at < seconds

    async def classify(
        self,
        model: LoadedModel,
        texts: Sequence[str],
        lane: Lane = Lane.INTERACTIVE,
        deadline: float | None = None,
    ) -> Classified:
        """Answer texts; `deadline` is in seconds of time.monotonic.

        Raises Exhausted when the queue is full or the deadline cannot be met, Unavailable when the
        batcher is closed, ModelFailed when the model computes nothing any more, and EngineFailure
        when the engine fails on one of the texts. The texts of a cancelled call leave the queue.
        """
        loop = asyncio.get_running_loop()
        job = Job(model, texts, lane, deadline, loop.create_future())
        self.queue.admit(job)
        if not self._announcing:
            # Once for all requests of this turn of the event loop: a wake-up for each would have
            # the threads contend with the loop for the interpreter.
            self._announcing = True
            loop.call_soon(self._announce)
        try:
            return await job.answer
        except asyncio.CancelledError:
            self.queue.withdraw(job)
            self._wake_waiting()
            raise

    async def classify_when_room(self, model: LoadedModel, texts: Sequence[str]) -> Classified:
        """Answer texts in the bulk lane, waiting while the queue is full.

        Raises Unavailable and EngineFailure as `classify` does.
        """
        while True:
            try:
                return await self.classify(model, texts, Lane.BULK)
            except Exhausted:
                room = asyncio.get_running_loop().create_future()
                self._waiting_for_room.append(room)
                await room

    def _announce(self) -> None:
        self._announcing = False
        self.queue.announce()

    # Each piece of work is done in a call of its own. While a loop in one frame waited, its
    # variables would keep the last batch, and with it a replaced model, in memory.

    def _run_compute(self) -> None:
        self._enter_compute_thread()
        while self._compute_next():
            pass

    def _compute_next(self) -> bool:
        """Tokenise few texts or compute a batch; False when nothing more will come."""
        work = self.queue.next_work()
        if isinstance(work, Batch):
            self._compute(work)
        elif work is not None:
            self._tokenize(work)
        return work is not None

    def _run_tokenize(self) -> None:
        while self._tokenize_next():
            pass

    def _tokenize_next(self) -> bool:
        """Tokenise many texts; False when nothing more will come."""
        jobs = self.queue.many_untokenized()
        if jobs is not None:
            self._tokenize(jobs)
        return jobs is not None

    def _tokenize(self, jobs: Sequence[Job]) -> None:
        awaited = [job for job in jobs if not job.ended]
        self.queue.put(tokenize(awaited, self._tokenize_failed))

    def _tokenize_failed(self, job: Job, error: Exception) -> None:
        log.error("tokenising failed", exc_info=error)
        self._fail([job])

    def _compute(self, batch: Batch) -> None:
        self._batches += 1
        self._computing = True
        started = time.monotonic()
        run = run_batch(batch, self._check)
        seconds = time.monotonic() - started
        self._computing = False
        if run.broken is not None:
            self._withdraw(batch.model, run.broken)
        elif run.failed:
            self._fail(run.failed)
        pad_waste = 0.0 if run.failures else batch.pad_waste(run.tokens)
        _account(batch, started, seconds, pad_waste)
        metrics.BATCH_TEXTS.observe(len(batch.texts))
        metrics.COMPUTE_SECONDS.observe(seconds)
        self._progressed_at = time.monotonic()
        self._call_loop(self._deliver, self.queue.complete(batch, seconds, bool(run.failures)))

    def _withdraw(self, model: LoadedModel, error: Exception) -> None:
        """Compute nothing more for a model; its callers are told to ask another replica."""
        log.error("a model computes nothing any more", exc_info=error)
        metrics.ENGINE_FAILURES.labels("model").inc()
        why = f"{FAILING}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        jobs = self.queue.refuse(model, f"this replica does not answer for the model: {FAILING}")
        self._call_loop(self.end_jobs, jobs)
        self._call_loop(lambda _: self.model_failed(model, why[:500]), [])

    def _fail(self, jobs: Collection[Job]) -> None:
        for job in jobs:
            self.queue.withdraw(job)
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
        self._end(
            jobs, EngineFailure, "the engine failed on this request; the replica's log says why"
        )

    def end_jobs(self, jobs: Collection[Job]) -> None:
        """Answer jobs that the queue has ended, because nothing here computes them."""
        self._end(jobs, ModelFailed, f"this replica does not answer for the model: {FAILING}")

    def _end(self, jobs: Collection[Job], kind: type[MeshError], message: str) -> None:
        for job in jobs:
            if not job.answer.done():
                job.answer.set_exception(kind(message))
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for room in waiting:
            if not room.done():
                room.set_result(None)


def _account(batch: Batch, started: float, seconds: float, pad_waste: float) -> None:
    """Enter a computed batch into the timing of its requests and into the metrics."""
    texts = len(batch.texts)
    for job in {text.job for text in batch.texts}:
        timing = job.timing
        waited_ms = (started - job.arrived) * 1e3 - timing.tokenize_ms
        timing.queue_ms = max(timing.queue_ms, waited_ms)
        timing.compute_ms = max(timing.compute_ms, seconds * 1e3)
        if texts > timing.batch_texts:
            timing.batch_texts, timing.pad_waste = texts, pad_waste
    metrics.PAD_WASTE.observe(pad_waste)
