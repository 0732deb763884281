"""The bounded queue between the event loop and the compute thread."""

import threading
import time
from collections.abc import Callable, Collection
from itertools import accumulate

from inference_svc.batching.cutting import BatchLimits, cut_batch
from inference_svc.batching.job import Batch, Job, Lane, QueuedText
from inference_svc.batching.throughput import Throughput
from inference_svc.model.loaded_model import Tokens
from service_kit.errors import Exhausted, Unavailable

# While both lanes wait, every so many batches one is for bulk.
BULK_TURN = 4
BULK_SHARE = 0.5  # of the queue
BACKGROUND_SHARE = 0.125
SHORTEST_RETRY_S = 0.05
LONGEST_RETRY_S = 30.0


class TextQueue:
    """Texts that wait or run, at most `max_texts`. Every method may be called by any thread.

    A text's rank is the time at which its turn would come had its request been computed alone
    since it arrived: a request of a thousand texts does not hold up those that come after it.
    """

    def __init__(
        self,
        max_texts: int,
        limits: BatchLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._room = {
            Lane.INTERACTIVE: max_texts,
            Lane.BULK: int(max_texts * BULK_SHARE),
            Lane.BACKGROUND: int(max_texts * BACKGROUND_SHARE),
        }
        self._limits = limits
        self._clock = clock
        self._changed = threading.Condition()
        self._throughput = Throughput()
        self._waiting: dict[Lane, list[QueuedText]] = {lane: [] for lane in Lane}
        self._held = dict.fromkeys(Lane, 0)  # texts admitted and not ended
        self._work = dict.fromkeys(Lane, 0)  # their cost
        self._turn = 0
        self._woken = False
        self._closed = False

    def __len__(self) -> int:
        return sum(self._held.values())

    def admit(self, job: Job) -> None:
        """Take a job in, before it is tokenised.

        Raises Exhausted when it does not fit, or would wait beyond its deadline.
        """
        with self._changed:
            if self._closed:
                raise Unavailable("this replica is shutting down")
            self._check_room(job)
            job.arrived = self._clock()
            self._check_deadline(job)
            self._held[job.lane] += job.left
            self._work[job.lane] += sum(job.costs)

    def _check_room(self, job: Job) -> None:
        held = len(self)
        mine = held if job.lane is Lane.INTERACTIVE else self._held[job.lane]
        free = self._room[job.lane] - mine
        missing = job.left - min(free, self._room[Lane.INTERACTIVE] - held)
        if missing > 0:
            work = sum(self._work.values()) * missing / max(held, 1)
            raise Exhausted(
                f"the queue is full: {held:,} texts wait", _bounded(self._throughput.seconds(work))
            )

    def _check_deadline(self, job: Job) -> None:
        if job.deadline is None:
            return
        left = job.deadline - job.arrived
        work = self._work[job.lane] + sum(job.costs)
        if self._throughput.seconds(work) <= left:
            return  # even behind everything
        last = self._ranks(job)[-1]
        waiting = self._waiting[job.lane]
        behind = sum(text.cost for text in waiting if text.rank > last)
        share = BULK_TURN / (BULK_TURN - 1) if self._waiting[Lane.BULK] else 1.0
        wait = self._throughput.seconds(work - behind) * share
        if wait > left:
            raise Exhausted(
                f"the wait would be {wait:.2f} s, but the deadline is in {left:.2f} s",
                _bounded(wait - left),
            )

    def _ranks(self, job: Job) -> list[float]:
        before = accumulate(job.costs[:-1], initial=0)
        return [job.arrived + self._throughput.seconds(cost) for cost in before]

    def put(self, job: Job, tokens: list[Tokens]) -> None:
        """Queue the tokenised texts of an admitted job."""
        with self._changed:
            if job.ended:
                return
            job.tokens = tokens
            parts = zip(self._ranks(job), tokens, job.costs, strict=True)
            lane = self._waiting[job.lane]
            lane.extend(QueuedText(job, index, *part) for index, part in enumerate(parts))
            lane.sort(key=lambda text: text.rank)
            self._changed.notify()

    def take(self) -> Batch | None:
        """Wait for work and return the next batch; None when woken, or closed and empty."""
        with self._changed:
            while not (any(self._waiting.values()) or self._woken or self._closed):
                self._changed.wait()
            self._woken = False
            lane = self._next_lane()
            if lane is None:
                return None
            batch = cut_batch(self._waiting[lane], self._limits)
            self._remove(lane, set(batch.texts))
            return batch

    def wake(self) -> None:
        """End a wait for work: there is some, but not yet in the queue."""
        with self._changed:
            self._woken = True
            self._changed.notify()

    @property
    def ended(self) -> bool:
        """Closed and empty."""
        return self._closed and not any(self._waiting.values())

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
        """Account for a computed batch; returns the jobs that have now ended."""
        ended = []
        with self._changed:
            self._throughput.observe(sum(text.cost for text in batch.texts), seconds)
            for text in batch.texts:
                job = text.job
                self._release(job, 1, text.cost)
                if job.left == 0 and not job.ended:
                    job.ended = True
                    ended.append(job)
        return ended

    def withdraw(self, job: Job) -> None:
        """End a job early: its waiting texts leave; those that run are no longer awaited."""
        with self._changed:
            if job.ended:
                return
            job.ended = True
            if not job.tokens:
                self._release(job, job.left, sum(job.costs))
                return
            mine = {text for text in self._waiting[job.lane] if text.job is job}
            self._remove(job.lane, mine)
            self._release(job, len(mine), sum(text.cost for text in mine))

    def _release(self, job: Job, texts: int, cost: int) -> None:
        job.left -= texts
        self._held[job.lane] -= texts
        self._work[job.lane] -= cost

    def close(self) -> None:
        """Take nothing more in; `take` returns what waits and then None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _bounded(seconds: float) -> float:
    return min(max(seconds, SHORTEST_RETRY_S), LONGEST_RETRY_S)
