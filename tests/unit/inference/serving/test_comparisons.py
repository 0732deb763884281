"""Challenger and Champion are compared on mirrored requests, when there is time."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from inference_svc.batching.job import Lane
from inference_svc.serving.comparisons import MAX_PENDING, URGENT_EVERY_S, Comparisons
from service_kit.errors import FailedPrecondition
from tests.twins.replica import Clock, until_admitted
from tests.unit.inference.parts import REVIEWS, TRIAL, Parts
from tests.unit.inference.serving.comparing import compared


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def comparisons(both: Parts, clock: Clock) -> AsyncIterator[Comparisons]:
    comparisons = Comparisons(both.batcher, both.slots, clock)
    yield comparisons
    await comparisons.close()


async def test_a_mirrored_request_is_answered_by_the_challenger_and_compared(both: Parts) -> None:
    answer = await both.replica.predict_mirrored("reviews", ["good", "bad"])
    assert answer.served.version == "2"
    await compared(both, 1)
    counts = both.served(TRIAL).stats
    assert (counts.answered, counts.agreed, counts.disagreed) == (1, 2, 0)
    # The Champion was asked for the comparison's sake; nobody waited for that.
    assert both.served().stats.answered == 0


async def test_labels_are_compared_by_name(both: Parts) -> None:
    served, trial = both.served(), both.served(TRIAL)
    both.replica.comparisons.compare(trial, served, ["x", "y", "z"], ["bad", "good", "new"])
    await compared(both, 1)
    assert (trial.stats.agreed, trial.stats.disagreed) == (1, 2)


async def test_comparisons_are_bounded_and_the_rest_is_counted(both: Parts) -> None:
    champion = both.engine.loaded[0]
    champion.go.clear()
    for _ in range(10):
        await both.replica.predict_mirrored("reviews", ["good"])
        if champion.started.acquire(blocking=False):
            break
    served, trial = both.served(), both.served(TRIAL)
    for _ in range(20):
        both.replica.comparisons.compare(trial, served, ["good"], ["good"])
    assert trial.stats.not_compared >= 12
    champion.go.set()
    await compared(both, 8)


async def test_a_mirrored_request_without_a_challenger_asks_nobody(both: Parts) -> None:
    with pytest.raises(FailedPrecondition, match="no Challenger of films is served here"):
        await both.replica.predict_mirrored("films", ["good"])


async def test_comparisons_wait_until_nobody_else_wants_the_engine(
    both: Parts, comparisons: Comparisons
) -> None:
    served, trial = both.served(), both.served(TRIAL)
    comparisons.compare(trial, served, ["good"], ["good"])  # the first one does not give way
    await compared(both, 1)
    champion, first = await both.held()
    comparisons.compare(trial, served, ["very " * 9 + "good"], ["good"])
    await until_admitted(both.batcher, 1, Lane.BACKGROUND)
    second = asyncio.create_task(both.replica.predict(REVIEWS, ["great film"]))
    await until_admitted(both.batcher, 2)
    champion.go.set()
    await asyncio.gather(first, second)
    await compared(both, 2)
    request, comparison = (batch.shape[1] for batch in champion.batches[-2:])
    assert request < comparison


async def test_now_and_then_a_comparison_does_not_give_way(
    both: Parts, comparisons: Comparisons, clock: Clock
) -> None:
    served, trial = both.served(), both.served(TRIAL)
    comparisons.compare(trial, served, ["good"], ["good"])
    await compared(both, 1)
    champion, first = await both.held()
    for _ in range(MAX_PENDING + 1):
        comparisons.compare(trial, served, ["good"], ["good"])
    assert trial.stats.not_compared == 1
    clock.now += URGENT_EVERY_S
    comparisons.compare(trial, served, ["good"], ["good"])
    assert trial.stats.not_compared == 1
    champion.go.set()
    await first
    await compared(both, MAX_PENDING + 2)
