"""The rest between small batches: who waits for company, how long, and who never does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from inference_svc.batching.cutting import BATCH_OVERHEAD_TOKENS, BatchLimits
from inference_svc.batching.job import Batch, Job, Lane
from inference_svc.batching.queue import TextQueue
from inference_svc.batching.rest import LONGEST_REST_S, Rest
from inference_svc.loaded_model import LoadedModel, Tokens
from tests.inference import Clock, SteeredClassifier, steered_model

BATCH_S = 0.01


class Desk:
    """A queue with a clock that the test moves."""

    def __init__(self, loop: asyncio.AbstractEventLoop, model: LoadedModel, share: float) -> None:
        self.clock = Clock()
        limits = BatchLimits(tokens=4 * BATCH_OVERHEAD_TOKENS, texts=64)
        self.queue = TextQueue(256, limits, self.clock, Rest(share))
        self._loop, self._model = loop, model

    def ask(self, texts: int = 1, tokens: int = 3, lane: Lane = Lane.INTERACTIVE) -> Job:
        """A request comes in."""
        job = Job(self._model, ["good"] * texts, lane, None, self._loop.create_future())
        self.queue.admit(job)
        self.queue.put(job, [Tokens([1] * tokens, truncated=False)] * texts)
        return job

    def ask_during_a_batch(self, tokens: int = 3) -> Batch:
        """A request comes in while another one is computed, whose batch is returned."""
        self.ask()
        batch = self.begin()
        self.clock.now += 0.001
        self.ask(tokens=tokens)
        return batch

    def begin(self) -> Batch:
        """The next batch, which nothing holds back."""
        assert self.pause() == 0
        batch = self.queue.take()
        assert batch is not None
        return batch

    def end(self, batch: Batch, seconds: float = BATCH_S) -> None:
        """The batch has taken so long."""
        self.clock.now += seconds
        self.queue.complete(batch, seconds)

    def pause(self) -> float:
        """Seconds until the next batch may begin."""
        return self.queue._pause()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    loop = asyncio.new_event_loop()
    yield Desk(loop, steered_model(tmp_path, SteeredClassifier()), share=1.0)
    loop.close()


def test_a_few_that_came_during_a_batch_wait_for_more_as_long_as_it_took(desk: Desk) -> None:
    batch = desk.ask_during_a_batch()
    desk.end(batch)
    assert desk.pause() == pytest.approx(BATCH_S)
    desk.clock.now += BATCH_S / 2
    desk.ask()
    assert desk.pause() == pytest.approx(BATCH_S / 2)
    desk.clock.now += BATCH_S / 2 + 1e-6
    assert len(desk.begin().texts) == 2


def test_who_asks_alone_never_waits(desk: Desk) -> None:
    for _ in range(3):
        desk.ask()
        desk.end(desk.begin())
        desk.clock.now += 0.001


def test_enough_work_never_waits(desk: Desk) -> None:
    batch = desk.ask_during_a_batch(tokens=BATCH_OVERHEAD_TOKENS - 1)
    desk.end(batch)
    assert desk.pause() > 0
    desk.ask(tokens=1)
    desk.begin()


def test_what_a_large_request_left_over_does_not_wait(desk: Desk) -> None:
    desk.ask(texts=65)
    batch = desk.begin()
    desk.end(batch)
    assert len(desk.begin().texts) == 1


def test_bulk_that_waits_ends_the_rest(desk: Desk) -> None:
    batch = desk.ask_during_a_batch()
    desk.end(batch)
    desk.ask(lane=Lane.BULK)
    desk.begin()


def test_a_queue_that_closes_does_not_rest(desk: Desk) -> None:
    batch = desk.ask_during_a_batch()
    desk.end(batch)
    desk.queue.close()
    desk.end(desk.begin())
    assert desk.queue.take() is None


def test_a_rest_is_bounded_and_may_be_switched_off() -> None:
    for share, expected in ((1.0, LONGEST_REST_S), (0.0, 0.0)):
        rest = Rest(share)
        rest.began(1.0)
        rest.ended(3.0, seconds=2.0)
        assert rest.left(3.0, first_arrived=2.0) == pytest.approx(expected)
