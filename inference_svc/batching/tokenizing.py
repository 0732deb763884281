"""Tokenises off the event loop: by the compute thread between two batches, or beside a batch."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import groupby

from inference_svc.batching.job import Job
from inference_svc.model.loaded_model import Tokens

# So many texts are tokenised beside the batch that is computed, by a thread of their own. Fewer
# wait for the compute thread to be free: a text takes 33 microseconds, waking the other thread for
# it costs as much again and takes the processor from the batch.
MANY_TEXTS = 8
# With so many texts at hand no more are fetched.
MOST_TEXTS = 64


class Tokenizing:
    """Tokenises jobs in their order; those that wait are done together, in one call."""

    def __init__(
        self,
        tokenized: Callable[[Job, list[Tokens]], None],
        failed: Callable[[Job, Exception], None],
        few_wait: Callable[[], None],
    ) -> None:
        """The first two are called once a job, one of them, by the thread that tokenised it.

        `few_wait` is called when jobs wait for `catch_up`.
        """
        self._tokenized = tokenized
        self._failed = failed
        self._few_wait = few_wait
        self._jobs: deque[Job] = deque()
        self._texts = 0  # of these jobs
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="tokenize", daemon=True)

    def start(self) -> None:
        """Start the thread for many texts."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Tokenise jobs soon."""
        with self._changed:
            self._jobs.extend(jobs)
            self._texts += sum(len(job.texts) for job in jobs)
            many = self._many
            if many:
                self._changed.notify()
        if not many:
            self._few_wait()

    def catch_up(self) -> None:
        """Tokenise what waits, unless it is so much that the thread is at it."""
        with self._changed:
            jobs = [] if self._many else self._next()
        self._tokenize(jobs)

    def close(self) -> None:
        """Tokenise what waits, then stop. Blocks."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # A frame that waits must not hold the last jobs: their model would stay until the next.
        while self._tokenize_many():
            pass

    def _tokenize_many(self) -> bool:
        """Wait for many texts and tokenise them; False: nothing more will come."""
        with self._changed:
            while not (self._many or self._closed):
                self._changed.wait()
            jobs = self._next()
            few_left = bool(self._jobs) and not self._many
        self._tokenize(jobs)
        if few_left:
            self._few_wait()
        return bool(jobs)

    @property
    def _many(self) -> bool:
        """The thread is to tokenise what waits."""
        return self._texts >= MANY_TEXTS and not self._closed

    def _next(self) -> list[Job]:
        jobs: list[Job] = []
        texts = 0
        while self._jobs and texts < MOST_TEXTS:
            jobs.append(self._jobs.popleft())
            texts += len(jobs[-1].texts)
        self._texts -= texts
        return jobs

    def _tokenize(self, jobs: Sequence[Job]) -> None:
        for _, same in groupby(jobs, key=lambda job: job.model):
            self._together(list(same))

    def _together(self, jobs: Sequence[Job]) -> None:
        started = time.monotonic()
        try:
            tokens = jobs[0].model.tokenizer.encode([text for job in jobs for text in job.texts])
        except Exception as error:
            if len(jobs) == 1:
                self._failed(jobs[0], error)
                return
            # Nobody is to fail for another's text.
            for job in jobs:
                self._together([job])
            return
        ms = (time.monotonic() - started) * 1e3
        begin = 0
        for job in jobs:
            end = begin + len(job.texts)
            job.timing.tokenize_ms = ms
            self._tokenized(job, tokens[begin:end])
            begin = end
