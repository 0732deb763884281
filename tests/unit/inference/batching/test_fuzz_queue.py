"""The queue under any sequence of calls: its bounds hold, and no job is lost or ended twice."""

import asyncio
from collections import deque
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from inference_svc.batching.admission import (
    BACKGROUND_SHARE,
    BULK_SHARE,
    MODEL_TIMES_FREE,
    NO_TIME_S,
)
from inference_svc.batching.job import Batch, Job, Lane
from inference_svc.batching.text_queue import MANY_TEXTS, MOST_TEXTS, TextQueue
from inference_svc.model.loaded_model import LoadedModel
from service_kit.errors import DeadlineTooShort, Exhausted, Unavailable
from tests.twins.replica import Clock, SteeredClassifier, steered_model
from tests.unit.inference.batching.jobs import LIMITS, put

MAX_TEXTS = 40
ROOM = {
    Lane.INTERACTIVE: MAX_TEXTS,
    Lane.BULK: int(MAX_TEXTS * BULK_SHARE),
    Lane.BACKGROUND: int(MAX_TEXTS * BACKGROUND_SHARE),
}


class QueueMachine(RuleBasedStateMachine):
    """Calls the queue as the event loop, the tokenize thread and the compute thread would."""

    admitted = Bundle("admitted")
    tokenizing = Bundle("tokenizing")
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
        self.arrived: list[Job] = []
        self.untokenized: dict[LoadedModel, deque[Job]] = {}
        """By model; the first one's turn is next."""
        self.waiting: dict[Job, set[int]] = {}
        self.ended: set[Job] = set()
        self.closed = False

    def teardown(self) -> None:
        self.close()
        while self.untokenized or self.waiting:
            work = self.queue.next_work()
            if isinstance(work, Batch):
                self.check_batch(work)
                self.complete(work, 0.01)
            else:
                self.put(self.check_untokenized(work), 3)
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
        lane_held = before if lane is Lane.INTERACTIVE else self.lane_held(lane)
        own = sum(count for held, count in self.held.items() if held.model is job.model)
        fits = texts <= min(ROOM[lane] - lane_held, MAX_TEXTS - before)
        fits = fits and own <= MODEL_TIMES_FREE * (MAX_TEXTS - before)
        try:
            self.queue.admit(job)
        except DeadlineTooShort:
            assert until is not None
            assert until < self.clock.now + 2 * NO_TIME_S
            return None
        except (Unavailable, Exhausted) as error:
            refusal = error
        else:
            assert fits
            assert not self.closed
            self.held[job] = texts
            self.arrived.append(job)
            return job
        assert isinstance(refusal, Unavailable) == self.closed
        assert 0 < refusal.retry_after_s <= 30
        assert self.closed or deadline is not None or not fits
        return None

    @rule()
    def announce(self) -> None:
        self.queue.announce()
        self.see_arrived()

    def see_arrived(self) -> None:
        for job in self.arrived:
            self.untokenized.setdefault(job.model, deque()).append(job)
        self.arrived.clear()

    @property
    def many(self) -> bool:
        texts = sum(len(job.texts) for jobs in self.untokenized.values() for job in jobs)
        return texts >= MANY_TEXTS and not self.closed

    @precondition(lambda self: self.many)
    @rule(target=tokenizing)
    def take_many_untokenized(self) -> list[Job]:
        return self.check_untokenized(self.queue.many_untokenized())

    @precondition(lambda self: self.untokenized and not self.many)
    @rule(target=tokenizing)
    def take_few_untokenized(self) -> list[Job]:
        work = self.queue.next_work()
        assert not isinstance(work, Batch)
        return self.check_untokenized(work)

    def check_untokenized(self, jobs: list[Job] | None) -> list[Job]:
        """The oldest of the model whose turn it is, no more than are tokenised together."""
        assert jobs
        model = next(iter(self.untokenized))
        waiting = self.untokenized.pop(model)
        assert jobs == [waiting.popleft() for _ in jobs]
        if waiting:
            self.untokenized[model] = waiting
        assert sum(len(job.texts) for job in jobs[:-1]) < MOST_TEXTS
        return jobs

    @rule(jobs=consumes(tokenizing), length=st.integers(1, 64))
    def put(self, jobs: list[Job], length: int) -> None:
        for job in jobs:
            put(self.queue, job, length)
            if job not in self.ended:
                self.waiting[job] = set(range(len(job.texts)))

    @precondition(lambda self: self.waiting and (self.many or not self.untokenized))
    @rule(target=batches)
    def take_a_batch(self) -> Batch:
        batch = self.queue.next_work()
        assert isinstance(batch, Batch)
        return self.check_batch(batch)

    def check_batch(self, batch: Batch) -> Batch:
        assert 1 <= len(batch.texts) <= LIMITS.texts
        assert len({text.job.model for text in batch.texts}) == 1
        for text in batch.texts:
            # Only texts that wait, and each once.
            self.waiting[text.job].remove(text.index)
            if not self.waiting[text.job]:
                del self.waiting[text.job]
        return batch

    @rule(batch=consumes(batches), seconds=st.floats(0, 1))
    def complete(self, batch: Batch, seconds: float) -> None:
        ended = self.queue.complete(batch, seconds)
        for text in batch.texts:
            self.held[text.job] -= 1
        done = {text.job for text in batch.texts if not self.held[text.job]} - self.ended
        assert len(ended) == len(set(ended))
        assert set(ended) == done
        self.ended |= done

    @rule(job=admitted)
    def withdraw(self, job: Job | None) -> None:
        if job is None:
            return
        self.queue.withdraw(job)
        if job not in self.ended:
            self.ended.add(job)
            left = self.waiting.pop(job, set())
            untokenized = not job.tokens
            self.held[job] -= self.held[job] if untokenized else len(left)

    @rule(model=st.integers(0, 1))
    def refuse_a_model_for_a_moment(self, model: int) -> None:
        """As when its computations fail: all its jobs end, and later ones are taken in again."""
        refused = self.models[model]
        live = {job for job in self.held if job.model is refused} - self.ended
        ended = self.queue.refuse(refused, "it fails")
        assert len(ended) == len(set(ended))
        assert set(ended) == live
        for job in live:
            self.ended.add(job)
            left = self.waiting.pop(job, set())
            self.held[job] -= len(left) if job.tokens else self.held[job]
        self.queue.accept(refused)

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @precondition(lambda self: len(self.held) > 3)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.queue.close()
        assert self.queue.many_untokenized() is None
        self.see_arrived()

    @precondition(lambda self: self.closed and not self.untokenized and not any(self.held.values()))
    @rule()
    def nothing_comes_after_the_end(self) -> None:
        assert self.queue.next_work() is None

    @invariant()
    def bounds_hold_and_every_text_is_accounted_for(self) -> None:
        assert len(self.queue) == sum(self.held.values()) <= MAX_TEXTS
        for lane in Lane:
            held = self.lane_held(lane)
            assert held == self.queue.admission.held[lane] <= ROOM[lane]
            work = self.queue.admission.work[lane]
            assert all(cost > 0 for cost in work.values())
            assert bool(work) == bool(held)
            waiting = sum(len(left) for job, left in self.waiting.items() if job.lane is lane)
            assert self.queue.tokenized_texts(lane) == waiting

    def lane_held(self, lane: Lane) -> int:
        return sum(count for job, count in self.held.items() if job.lane is lane)


QueueMachine.TestCase.settings = settings(stateful_step_count=40)
TestQueue = QueueMachine.TestCase
