"""The queue under any sequence of calls: its bounds hold, and no job is lost or ended twice."""

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.job import Batch, Job, Lane
from inference_svc.batching.text_queue import BACKGROUND_SHARE, BULK_SHARE, TextQueue
from inference_svc.model.loaded_model import Tokens
from service_kit.errors import Exhausted, Unavailable
from tests.twins.replica import Clock, SteeredClassifier, steered_model

MAX_TEXTS = 40
LIMITS = BatchLimits(tokens=256, texts=8)
ROOM = {
    Lane.INTERACTIVE: MAX_TEXTS,
    Lane.BULK: int(MAX_TEXTS * BULK_SHARE),
    Lane.BACKGROUND: int(MAX_TEXTS * BACKGROUND_SHARE),
}


class QueueMachine(RuleBasedStateMachine):
    """Calls the queue as the event loop, the tokenizing and the compute thread would."""

    admitted = Bundle("admitted")
    queued = Bundle("queued")
    batches = Bundle("batches")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        with TemporaryDirectory() as folder:
            self.models = [
                steered_model(Path(folder) / name, SteeredClassifier()) for name in ("a", "b")
            ]
        self.clock = Clock()
        self.queue = TextQueue(MAX_TEXTS, LIMITS, self.clock)
        self.held: dict[Job, int] = {}
        """Texts of each admitted job that neither were computed nor left."""
        self.waiting: dict[Job, set[int]] = {}
        self.ended: set[Job] = set()
        self.running = 0
        self.closed = False

    def teardown(self) -> None:
        for job in [job for job in self.held if not (job.tokens or job.ended)]:
            self._put(job, 3)
        while self.waiting:
            self.complete(self.take(), 0.01)
        self.loop.close()

    @rule(
        target=admitted,
        model=st.integers(0, 1),
        texts=st.integers(1, 20),
        lane=st.sampled_from(Lane),
        deadline=st.none() | st.floats(-1, 10),
    )
    def admit(self, model: int, texts: int, lane: Lane, deadline: float | None) -> Job | None:
        until = None if deadline is None else self.clock.now + deadline
        answer = self.loop.create_future()
        job = Job(self.models[model], ["good"] * texts, lane, until, answer)
        before = len(self.queue)
        mine = before if lane is Lane.INTERACTIVE else self._held(lane)
        fits = texts <= min(ROOM[lane] - mine, MAX_TEXTS - before)
        try:
            self.queue.admit(job)
        except (Unavailable, Exhausted) as error:
            refusal = error
        else:
            assert fits
            assert not self.closed
            self.held[job] = texts
            return job
        assert isinstance(refusal, Unavailable) == self.closed
        assert 0 < refusal.retry_after_s <= 30
        assert self.closed or deadline is not None or not fits
        return None

    @rule(target=queued, job=consumes(admitted), length=st.integers(1, 64))
    def put(self, job: Job | None, length: int) -> Job | None:
        if job is not None:
            self._put(job, length)
        return job

    def _put(self, job: Job, length: int) -> None:
        self.queue.put(job, [Tokens([1] * length, truncated=False)] * len(job.texts))
        if not job.ended:
            self.waiting[job] = set(range(len(job.texts)))

    @rule(target=batches)
    def take_when_something_waits(self) -> Batch | None:
        return self.take() if self.waiting else None

    def take(self) -> Batch:
        batch = self.queue.take()
        assert batch is not None
        assert 1 <= len(batch.texts) <= LIMITS.texts
        assert len({text.job.model for text in batch.texts}) == 1
        for text in batch.texts:
            # Only what waits, and each text once.
            self.waiting[text.job].remove(text.index)
            if not self.waiting[text.job]:
                del self.waiting[text.job]
        self.running += len(batch.texts)
        return batch

    @rule(batch=consumes(batches), seconds=st.floats(0, 1))
    def complete_a_batch(self, batch: Batch | None, seconds: float) -> None:
        if batch is not None:
            self.complete(batch, seconds)

    def complete(self, batch: Batch, seconds: float) -> None:
        ended = self.queue.complete(batch, seconds)
        self.running -= len(batch.texts)
        for text in batch.texts:
            self.held[text.job] -= 1
        done = {text.job for text in batch.texts if not self.held[text.job]} - self.ended
        assert len(ended) == len(set(ended))
        assert set(ended) == done
        self.ended |= done

    @rule(job=admitted | queued)
    def withdraw(self, job: Job | None) -> None:
        if job is None:
            return
        self.queue.withdraw(job)
        if job not in self.ended:
            self.ended.add(job)
            left = self.waiting.pop(job, set())
            untokenized = not job.tokens
            self.held[job] -= self.held[job] if untokenized else len(left)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @rule()
    def close_when_nothing_waits(self) -> None:
        if not self.waiting and len(self.held) > 3:
            self.closed = True
            self.queue.close()
            assert self.queue.take() is None

    @invariant()
    def bounds_hold_and_every_text_is_accounted_for(self) -> None:
        assert len(self.queue) == sum(self.held.values()) <= MAX_TEXTS
        for lane in Lane:
            assert self._held(lane) <= ROOM[lane]
            cost = self.queue._work[lane]
            assert cost >= 0
            assert (cost == 0) == (self._held(lane) == 0)
        in_lanes = sum(len(texts) for texts in self.queue._waiting.values())
        assert in_lanes == sum(len(indexes) for indexes in self.waiting.values())

    def _held(self, lane: Lane) -> int:
        return sum(count for job, count in self.held.items() if job.lane is lane)


QueueMachine.TestCase.settings = settings(stateful_step_count=40)
TestQueue = QueueMachine.TestCase
