"""Several models in one queue: neither the speed of one nor its flood is another one's trouble."""

import asyncio
from pathlib import Path

import pytest

from inference_svc.batching.cutting import BatchLimits
from inference_svc.batching.fair_share import FairShare
from inference_svc.batching.job import Lane
from inference_svc.batching.text_queue import TextQueue
from inference_svc.model.loaded_model import LoadedModel
from service_kit.errors import Exhausted, Unavailable
from tests.twins.replica import Clock, SteeredClassifier, steered_model
from tests.unit.inference.batching.jobs import LIMITS, make_job, next_batch, submit

Loop = asyncio.AbstractEventLoop


@pytest.fixture
def slow(tmp_path: Path) -> LoadedModel:
    return steered_model(tmp_path / "slow", SteeredClassifier())


@pytest.fixture
def fast(tmp_path: Path) -> LoadedModel:
    return steered_model(tmp_path / "fast", SteeredClassifier())


def measured(queue: TextQueue, loop: Loop, model: LoadedModel, seconds: float) -> None:
    """Have a batch of one text take this long."""
    for _ in range(20):
        submit(queue, make_job(loop, model))
        queue.complete(next_batch(queue), seconds)


def test_a_slow_model_does_not_refuse_the_calls_of_a_fast_one(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(64, LIMITS, clock)
    measured(queue, loop, slow, 10.0)
    submit(queue, make_job(loop, fast, deadline=clock.now + 0.1))  # its first batch is not known
    queue.complete(next_batch(queue), 0.01)
    measured(queue, loop, fast, 0.01)
    queue.admit(make_job(loop, fast, deadline=clock.now + 0.1))
    with pytest.raises(Exhausted, match="deadline"):
        queue.admit(make_job(loop, slow, deadline=clock.now + 5))
    queue.admit(make_job(loop, slow, deadline=clock.now + 11))


def test_a_fast_model_does_not_let_calls_of_a_slow_one_in_that_will_be_late(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(64, LIMITS, clock)
    measured(queue, loop, slow, 1.0)
    measured(queue, loop, fast, 0.001)
    for _ in range(20):
        queue.admit(make_job(loop, fast))
    with pytest.raises(Exhausted, match="deadline"):
        queue.admit(make_job(loop, slow, deadline=clock.now + 0.5))


def test_the_wait_behind_another_models_flood_is_its_fair_share_only(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(64, BatchLimits(tokens=256, texts=1), clock)
    measured(queue, loop, slow, 1.0)
    measured(queue, loop, fast, 0.01)
    for _ in range(40):
        submit(queue, make_job(loop, slow))  # 40 seconds of work
    # One batch of the slow model may run, and one more may go first.
    queue.admit(make_job(loop, fast, deadline=clock.now + 1.2))
    with pytest.raises(Exhausted, match="deadline"):
        queue.admit(make_job(loop, fast, deadline=clock.now + 0.5))


def test_a_flood_of_one_model_does_not_hold_up_another(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    clock = Clock()
    queue = TextQueue(64, BatchLimits(tokens=256, texts=1), clock)
    measured(queue, loop, slow, 0.5)
    measured(queue, loop, fast, 0.1)
    for _ in range(30):
        submit(queue, make_job(loop, slow))
    queue.complete(next_batch(queue), 0.5)
    jobs = [submit(queue, make_job(loop, fast)) for _ in range(10)]
    turns = []
    while any(job.left for job in jobs):
        batch = next_batch(queue)
        queue.complete(batch, 0.5 if batch.model is slow else 0.1)
        turns.append(batch.model)
    # Ten texts of 0.1 s, and as much time for the flood.
    assert turns.count(slow) <= 3


def test_a_flood_of_one_model_leaves_room_for_another(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    queue = TextQueue(64, LIMITS)
    for _ in range(57):
        queue.admit(make_job(loop, slow))
    with pytest.raises(Exhausted, match="what is left is for other models"):
        queue.admit(make_job(loop, slow))
    queue.admit(make_job(loop, fast))


def test_a_flood_that_is_not_tokenised_yet_does_not_hold_up_another_model(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    queue = TextQueue(4096, LIMITS)
    for _ in range(3000):
        queue.admit(make_job(loop, slow))
    late = make_job(loop, fast)
    queue.admit(late)
    queue.announce()
    first, second = queue.many_untokenized(), queue.many_untokenized()
    assert first
    assert {job.model for job in first} == {slow}
    assert second == [late]


def test_a_single_call_of_any_size_finds_an_empty_queue_open(loop: Loop, fast: LoadedModel) -> None:
    TextQueue(64, LIMITS).admit(make_job(loop, fast, texts=64))


def test_batch_never_mixes_models(loop: Loop, slow: LoadedModel, fast: LoadedModel) -> None:
    queue = TextQueue(64, LIMITS)
    jobs = [submit(queue, make_job(loop, model)) for model in (slow, fast, slow, fast)]
    batches = [next_batch(queue), next_batch(queue)]
    assert [batch.model for batch in batches] == [slow, fast]
    assert {text.job for batch in batches for text in batch.texts} == set(jobs)


def test_what_runs_is_charged_before_it_ends(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    queue = TextQueue(64, BatchLimits(tokens=256, texts=1))
    for model in (slow, slow, fast):
        submit(queue, make_job(loop, model))
    assert next_batch(queue).model is slow
    assert next_batch(queue).model is fast


def test_a_refused_model_ends_its_jobs_and_no_others(
    loop: Loop, slow: LoadedModel, fast: LoadedModel
) -> None:
    queue = TextQueue(64, BatchLimits(tokens=256, texts=1))
    running = submit(queue, make_job(loop, slow, texts=2))
    other = submit(queue, make_job(loop, fast, lane=Lane.BULK))
    batch = next_batch(queue)
    untokenized = make_job(loop, slow)
    queue.admit(untokenized)
    assert set(queue.refuse(slow, "its computations fail")) == {running, untokenized}
    with pytest.raises(Unavailable, match="its computations fail"):
        queue.admit(make_job(loop, slow))
    assert queue.complete(batch, 1.0, failed=True) == []
    assert [text.job for text in next_batch(queue).texts] == [other]
    queue.accept(slow)
    queue.admit(make_job(loop, slow))


def test_those_who_wait_share_the_time_and_nobody_saves_time_up() -> None:
    share: FairShare[str] = FairShare()
    used = dict.fromkeys("abc", 0.0)

    def turns(number: int, waiting: str) -> None:
        for _ in range(number):
            one = share.choose(waiting)
            seconds = {"a": 1.0, "b": 0.1, "c": 0.5}[one]
            share.charge(one, seconds)
            used[one] += seconds

    turns(100, "a")
    used["a"] = 0.0
    turns(220, "ab")
    assert used["a"] == pytest.approx(used["b"], abs=1.2)
    before = dict(used)
    turns(30, "abc")
    gained = {name: used[name] - before[name] for name in "abc"}
    assert max(gained.values()) - min(gained.values()) <= 1.2
