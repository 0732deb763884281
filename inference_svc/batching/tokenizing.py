"""The thread that tokenises, off the event loop and beside what is being computed."""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from queue import Empty, SimpleQueue

from inference_svc.batching.job import Job
from inference_svc.loaded_model import Tokens

# With so many texts at hand no more are fetched.
MOST_TEXTS = 64


class TokenizeThread:
    """Tokenises jobs in their order; those that wait are done together, in one call."""

    def __init__(
        self,
        tokenized: Callable[[Job, list[Tokens]], None],
        failed: Callable[[Job, Exception], None],
    ) -> None:
        """Both are called by the thread, once a job one of them."""
        self._tokenized = tokenized
        self._failed = failed
        self._jobs: SimpleQueue[Sequence[Job] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="tokenize", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def submit(self, jobs: Sequence[Job]) -> None:
        """Tokenise jobs soon."""
        self._jobs.put(jobs)

    def close(self) -> None:
        """Tokenise what waits, then stop. Blocks."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        # A frame that waits must not hold the last jobs: their model would stay until the next.
        while self._tokenize_next():
            pass

    def _tokenize_next(self) -> bool:
        """Tokenise what has come; False: nothing more will."""
        jobs, ends = self._next()
        for _, same in groupby(jobs, key=lambda job: job.model):
            self._together(list(same))
        return not ends

    def _next(self) -> tuple[list[Job], bool]:
        """Wait for jobs; returns some, and whether they are the last."""
        jobs: list[Job] = []
        texts = 0
        arrived = self._jobs.get()
        while arrived is not None:
            jobs.extend(arrived)
            texts += sum(len(job.texts) for job in arrived)
            if texts >= MOST_TEXTS:
                return jobs, False
            try:
                arrived = self._jobs.get_nowait()
            except Empty:
                return jobs, False
        return jobs, True

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
