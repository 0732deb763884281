"""The queue's order, its bounds, and what it refuses."""

import asyncio

import pytest
from grpc import StatusCode

from inference_svc.batching.admission import BULK_TURN
from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.job import Lane
from inference_svc.batching.text_queue import MANY_TEXTS, TextQueue
from inference_svc.model.loaded_model import LoadedModel
from service_kit.errors import DeadlineTooShort, Exhausted
from tests.twins.replica import Clock
from tests.unit.inference.batching.jobs import LIMITS, make_job, next_batch, put, submit


def test_small_request_does_not_wait_for_a_large_one_before_it(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(1024, LIMITS, clock)
    submit(queue, make_job(loop, model, texts=8))
    measured = next_batch(queue)
    queue.complete(measured, seconds=0.1)
    large = submit(queue, make_job(loop, model, texts=512))
    clock.now += 0.1
    small = submit(queue, make_job(loop, model))
    # Its turn comes after what the large one was due by now, not after all of it.
    for _ in range(3):
        batch = next_batch(queue)
        queue.complete(batch, seconds=0.1)
        clock.now += 0.1
    assert small.left == 0
    assert large.left > 400


def test_interactive_goes_first_but_bulk_does_not_starve(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(256, BatchLimits(tokens=256, texts=1))
    bulk = submit(queue, make_job(loop, model, texts=8, lane=Lane.BULK))
    submit(queue, make_job(loop, model, texts=32))
    lanes = []
    for _ in range(2 * BULK_TURN):
        batch = next_batch(queue)
        lanes.append(batch.texts[0].job is bulk)
    assert lanes.count(True) == 2
    assert not lanes[0]


def test_full_queue_refuses_with_a_delay_from_recent_throughput(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(16, LIMITS)
    submit(queue, make_job(loop, model, texts=16))
    batch = next_batch(queue)
    queue.complete(batch, seconds=8.0)  # 8 texts in 8 s
    with pytest.raises(Exhausted) as refused:
        queue.admit(make_job(loop, model, texts=12))
    assert refused.value.retry_after_s == pytest.approx(4.0, rel=0.1)


def test_bulk_leaves_room_for_interactive(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(16, LIMITS)
    submit(queue, make_job(loop, model, texts=8, lane=Lane.BULK))
    with pytest.raises(Exhausted):
        queue.admit(make_job(loop, model, lane=Lane.BULK))
    queue.admit(make_job(loop, model, texts=8))


def test_request_that_would_miss_its_deadline_is_refused(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(64, LIMITS, clock)
    submit(queue, make_job(loop, model, texts=32))
    batch = next_batch(queue)
    queue.complete(batch, seconds=8.0)
    submit(queue, make_job(loop, model, texts=8))
    with pytest.raises(Exhausted, match="deadline"):
        queue.admit(make_job(loop, model, deadline=clock.now + 1))
    queue.admit(make_job(loop, model, deadline=clock.now + 60))


@pytest.mark.parametrize("texts", [1, 64])
@pytest.mark.parametrize("late_s", [-0.0009, 0, 0.001, 60])
def test_a_call_whose_deadline_has_passed_is_told_so_even_when_the_queue_is_full(
    loop: asyncio.AbstractEventLoop, model: LoadedModel, texts: int, late_s: float
) -> None:
    clock = Clock()
    queue = TextQueue(64, LIMITS, clock)
    submit(queue, make_job(loop, model, texts=texts))
    with pytest.raises(DeadlineTooShort, match="deadline passed") as refused:
        queue.admit(make_job(loop, model, deadline=clock.now - late_s))
    assert refused.value.code is StatusCode.DEADLINE_EXCEEDED


def test_withdrawn_job_leaves_the_queue_and_gives_its_room_back(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(32, LIMITS)
    withdrawn = submit(queue, make_job(loop, model, texts=20))
    batch = next_batch(queue)
    queue.withdraw(withdrawn)
    assert len(queue) == len(batch.texts)
    assert queue.complete(batch, seconds=0.1) == []
    assert len(queue) == 0


def test_withdrawn_job_leaves_the_queue_before_it_is_tokenised(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(32, LIMITS)
    withdrawn = make_job(loop, model, texts=20)
    queue.admit(withdrawn)
    queue.withdraw(withdrawn)
    assert len(queue) == 0
    put(queue, withdrawn)
    assert len(queue) == queue.tokenized_texts(Lane.INTERACTIVE) == 0


def test_few_texts_are_tokenised_by_the_compute_thread_before_its_next_batch(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(64, LIMITS)
    first = submit(queue, make_job(loop, model))
    jobs = [make_job(loop, model) for _ in range(MANY_TEXTS - 1)]
    for job in jobs:
        queue.admit(job)
    queue.announce()
    assert queue.next_work() == jobs
    assert [text.job for text in next_batch(queue).texts] == [first]


def test_many_texts_are_left_to_the_tokenize_thread_until_the_queue_closes(
    loop: asyncio.AbstractEventLoop, model: LoadedModel
) -> None:
    queue = TextQueue(64, LIMITS)
    first = submit(queue, make_job(loop, model))
    jobs = [make_job(loop, model) for _ in range(MANY_TEXTS)]
    for job in jobs:
        queue.admit(job)
    queue.announce()
    assert [text.job for text in next_batch(queue).texts] == [first]
    assert queue.many_untokenized() == jobs
    late = make_job(loop, model, texts=MANY_TEXTS)
    queue.admit(late)
    queue.close()
    assert queue.many_untokenized() is None
    assert queue.next_work() == [late]
