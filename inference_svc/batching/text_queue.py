"""The bounded queue between the event loop and the two threads that serve it."""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from inference_svc.batching.admission import BULK_TURN, Admission
from inference_svc.batching.cutting import BatchLimits, cut_batch
from inference_svc.batching.job import Batch, Job, Lane, QueuedText
from inference_svc.batching.throughput import Throughput
from inference_svc.model.text_tokenizer import Tokens
from service_kit.errors import Unavailable

# From this many untokenised texts on, the tokenize thread takes them, beside the batch that is
# computed. Fewer wait until the compute thread is free: a text takes 33 microseconds, and waking
# the other thread costs as much again and takes the processor from the batch.
MANY_TEXTS = 8
# Jobs are handed out for tokenising until they have this many texts together.
MOST_TEXTS = 64


class TextQueue:
    """Texts that wait or run, at most `max_texts`. Every method may be called by any thread.

    A job waits untokenised at first; its tokens are put where it waits. A tokenised text's rank is
    the time at which its turn would come if its request had been computed alone since it arrived.
    So a request of a thousand texts does not hold up those that come after it.
    """

    def __init__(
        self,
        max_texts: int,
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._clock = clock
        self._throughput = Throughput()
        self.admission = Admission(max_texts, self._throughput)
        # One lock guards everything here. Each of the two threads waits for a condition of its
        # own, so that a text wakes the thread that is to tokenise it and not the other one.
        self._lock = threading.Lock()
        self._for_compute = threading.Condition(self._lock)
        self._for_tokenize = threading.Condition(self._lock)
        self._arrived: list[Job] = []
        self._untokenized: deque[Job] = deque()
        self._untokenized_texts = 0
        self._waiting: dict[Lane, list[QueuedText]] = {lane: [] for lane in Lane}
        self._turn = 0
        self._closed = False

    def __len__(self) -> int:
        """Texts that wait or run."""
        return self.admission.texts

    def tokenized_texts(self, lane: Lane) -> int:
        """Tokenised texts of a lane that wait."""
        return len(self._waiting[lane])

    def admit(self, job: Job) -> None:
        """Take a job in; the threads see it after the next `announce`.

        Raises Exhausted when the job does not fit, or would wait beyond its deadline, and
        Unavailable when the queue is closed.
        """
        with self._lock:
            if self._closed:
                raise Unavailable("this replica is shutting down")
            job.arrived = self._clock()
            self.admission.admit(job, self._waiting)
            self._arrived.append(job)

    def announce(self) -> None:
        """Have the jobs tokenised that were admitted since the last call."""
        with self._lock:
            self._hand_over()
            if self._many:
                self._for_tokenize.notify()
            else:
                self._for_compute.notify()

    def _hand_over(self) -> None:
        self._untokenized.extend(self._arrived)
        self._untokenized_texts += sum(len(job.texts) for job in self._arrived)
        self._arrived.clear()

    def next_work(self) -> Batch | list[Job] | None:
        """Wait for work of the compute thread.

        Returns jobs to tokenise when few texts are untokenised, else the next batch; None when the
        queue is closed and empty. `put` follows every call that returned jobs.
        """
        with self._lock:
            while True:
                if self._untokenized and not self._many:
                    return self._take_untokenized()
                if (lane := self._next_lane()) is not None:
                    return self._take_batch(lane)
                if self._closed and not len(self):
                    return None
                self._for_compute.wait()

    def many_untokenized(self) -> list[Job] | None:
        """Wait for work of the tokenize thread.

        Returns jobs to tokenise when many texts are untokenised; None when the queue is closed.
        `put` follows every call that returned jobs.
        """
        with self._lock:
            while not (self._many or self._closed):
                self._for_tokenize.wait()
            return None if self._closed else self._take_untokenized()

    @property
    def _many(self) -> bool:
        """Whether the tokenize thread is to take the untokenised texts."""
        return self._untokenized_texts >= MANY_TEXTS and not self._closed

    def _take_untokenized(self) -> list[Job]:
        jobs: list[Job] = []
        texts = 0
        while self._untokenized and texts < MOST_TEXTS:
            jobs.append(self._untokenized.popleft())
            texts += len(jobs[-1].texts)
        self._untokenized_texts -= texts
        return jobs

    def put(self, tokenized: Sequence[tuple[Job, list[Tokens]]]) -> None:
        """Queue the texts of jobs with their tokens; jobs that have ended are left out."""
        with self._lock:
            lanes = set()
            for job, tokens in tokenized:
                if job.ended:
                    continue
                job.tokens = tokens
                lanes.add(job.lane)
                ranks = self._throughput.ranks(job.arrived, job.costs)
                parts = zip(ranks, tokens, job.costs, strict=True)
                self._waiting[job.lane].extend(
                    QueuedText(job, index, *part) for index, part in enumerate(parts)
                )
            for lane in lanes:
                self._waiting[lane].sort(key=lambda text: text.rank)
            self._for_compute.notify()

    def _take_batch(self, lane: Lane) -> Batch:
        batch = cut_batch(self._waiting[lane], self._limits)
        self._remove(lane, set(batch.texts))
        return batch

    def _next_lane(self) -> Lane | None:
        ready = [lane for lane in Lane if self._waiting[lane]]
        if len(ready) < 2:
            return ready[0] if ready else None
        if not self._waiting[Lane.BULK]:
            return Lane.INTERACTIVE
        if not self._waiting[Lane.INTERACTIVE]:
            return Lane.BULK
        self._turn = (self._turn + 1) % BULK_TURN
        return Lane.BULK if self._turn == 0 else Lane.INTERACTIVE

    def _remove(self, lane: Lane, texts: Collection[QueuedText]) -> None:
        self._waiting[lane] = [text for text in self._waiting[lane] if text not in texts]

    def complete(self, batch: Batch, seconds: float) -> list[Job]:
        """Account for a batch that took `seconds`; returns the jobs that have now ended."""
        ended = []
        with self._lock:
            self._throughput.observe(sum(text.cost for text in batch.texts), seconds)
            for text in batch.texts:
                job = text.job
                self.admission.release(job, 1, text.cost)
                if job.left == 0 and not job.ended:
                    job.ended = True
                    ended.append(job)
        return ended

    def withdraw(self, job: Job) -> None:
        """End a job early: its waiting texts leave, and nobody awaits those that run."""
        with self._lock:
            if job.ended:
                return
            job.ended = True
            if job.tokens:
                own = {text for text in self._waiting[job.lane] if text.job is job}
                self._remove(job.lane, own)
                self.admission.release(job, len(own), sum(text.cost for text in own))
            else:
                self.admission.release(job, job.left, sum(job.costs))
            if self._closed:
                self._for_compute.notify()

    def close(self) -> None:
        """Take nothing more in; the compute thread gets what waits, and then None."""
        with self._lock:
            self._closed = True
            self._hand_over()
            self._for_compute.notify()
            self._for_tokenize.notify()
