"""What a replica counts, and how it compares Challenger and Champion on mirrored requests."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from inference_svc.batching.batcher import EngineFailure
from inference_svc.batching.job import Lane
from inference_svc.doors.replica_servicer import ReplicaServicer
from inference_svc.metrics.answer_counts import AnswerCounts
from inference_svc.serving.comparisons import MAX_PENDING
from inference_svc.serving.replica import Answer
from inference_svc.serving.slot_collector import SlotCollector
from inference_svc.serving.slots import CHALLENGER, ServedVersion, SlotKey
from mesh.v1 import replica_pb2
from service_kit.errors import DeadlineTooShort, Exhausted, FailedPrecondition, InvalidArgument
from service_kit.histogram import BUCKETS, bucket_of, quantile_ms, upper_ms
from tests.twins.replica import FakeRegistry, SteeredClassifier, until, until_admitted
from tests.unit.inference.test_versions import REVIEWS, Parts, filled

TRIAL = SlotKey("reviews", CHALLENGER)


@pytest.fixture
def executor() -> Iterator[Executor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
async def parts(tmp_path: Path, executor: Executor) -> AsyncIterator[Parts]:
    parts = Parts(tmp_path / "state", filled(FakeRegistry(), tmp_path), executor)
    parts.batcher.start()
    await parts.reload("1")
    await parts.reload("2", TRIAL)
    yield parts
    await parts.replica.comparisons.close()
    await parts.batcher.close()


def stats(parts: Parts, slot: SlotKey = REVIEWS) -> AnswerCounts:
    return serving(parts, slot).stats


def serving(parts: Parts, slot: SlotKey) -> ServedVersion:
    served = parts.slots.served(slot)
    assert served is not None
    return served


def both(parts: Parts) -> tuple[ServedVersion, ServedVersion]:
    """Champion and Challenger."""
    return serving(parts, REVIEWS), serving(parts, TRIAL)


async def held(parts: Parts) -> tuple[SteeredClassifier, asyncio.Task[Answer]]:
    """The Champion's engine, and the request that it works on until `go` is set."""
    champion = parts.engine.loaded[0]
    champion.go.clear()
    call = asyncio.create_task(parts.replica.predict(REVIEWS, ["good"]))
    assert await asyncio.to_thread(champion.started.acquire, timeout=10)
    return champion, call


async def test_every_request_is_counted_with_its_time_and_its_labels(parts: Parts) -> None:
    await parts.replica.predict(REVIEWS, ["good film", "bad film"])
    await parts.replica.predict(REVIEWS, ["good"])
    found = stats(parts)
    assert (found.answered, found.texts, found.failed) == (2, 3, 0)
    assert found.by_label() == {"bad": 0, "good": 3}
    assert sum(found.latency) == sum(found.compute) == 2
    assert stats(parts, TRIAL).answered == 0


async def test_bulk_is_not_counted(parts: Parts) -> None:
    await parts.replica.predict(REVIEWS, ["good"], Lane.BULK)
    assert stats(parts).answered == 0


async def test_only_the_servers_faults_are_failures(parts: Parts) -> None:
    engine = parts.engine.loaded[0]
    engine.fails_on = 4  # "bad"
    with pytest.raises(EngineFailure):
        await parts.replica.predict(REVIEWS, ["bad"])
    with pytest.raises(InvalidArgument):
        await parts.replica.predict(REVIEWS, [""])
    with pytest.raises((Exhausted, DeadlineTooShort)):
        await parts.replica.predict(REVIEWS, ["good"], deadline=0.0)
    _, call = await held(parts)
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    engine.go.set()
    assert (stats(parts).answered, stats(parts).failed) == (0, 1)


async def test_a_new_activation_counts_from_zero(parts: Parts) -> None:
    await parts.replica.predict(REVIEWS, ["good"])
    await parts.reload("3")
    assert stats(parts).answered == 0


async def test_a_mirrored_request_is_answered_by_the_challenger_and_compared(parts: Parts) -> None:
    answer = await parts.replica.predict_mirrored("reviews", ["good", "bad"])
    assert answer.served.version == "2"
    await compared(parts, 1)
    found = stats(parts, TRIAL)
    assert (found.answered, found.agreed, found.disagreed) == (1, 2, 0)
    # The Champion was asked for the comparison's sake; nobody waited for that.
    assert stats(parts).answered == 0


async def test_labels_are_compared_by_name(parts: Parts) -> None:
    served, trial = both(parts)
    parts.replica.comparisons.compare(trial, served, ["x", "y", "z"], ["bad", "good", "new"])
    await compared(parts, 1)
    assert (trial.stats.agreed, trial.stats.disagreed) == (1, 2)


async def test_comparisons_wait_until_nobody_else_wants_the_engine(parts: Parts) -> None:
    champion, first = await held(parts)
    served, trial = both(parts)
    parts.replica.comparisons._next_urgent = math.inf
    parts.replica.comparisons.compare(trial, served, ["very " * 9 + "good"], ["good"])
    await until_admitted(parts.batcher, 1, Lane.BACKGROUND)
    second = asyncio.create_task(parts.replica.predict(REVIEWS, ["great film"]))
    await until_admitted(parts.batcher, 2)
    champion.go.set()
    await asyncio.gather(first, second)
    await compared(parts, 1)
    request, comparison = (batch.shape[1] for batch in champion.batches[-2:])
    assert request < comparison


async def test_now_and_then_a_comparison_does_not_give_way(parts: Parts) -> None:
    champion, first = await held(parts)
    served, trial = both(parts)
    comparisons = parts.replica.comparisons
    comparisons._next_urgent = math.inf
    for _ in range(MAX_PENDING + 1):
        comparisons.compare(trial, served, ["good"], ["good"])
    assert trial.stats.not_compared == 1
    comparisons._next_urgent = 0
    comparisons.compare(trial, served, ["good"], ["good"])
    assert trial.stats.not_compared == 1
    champion.go.set()
    await first
    await compared(parts, MAX_PENDING + 1)


async def test_comparisons_are_bounded_and_the_rest_is_counted(parts: Parts) -> None:
    champion = parts.engine.loaded[0]
    champion.go.clear()
    for _ in range(10):
        await parts.replica.predict_mirrored("reviews", ["good"])
        if champion.started.acquire(blocking=False):
            break
    served, trial = both(parts)
    for _ in range(20):
        parts.replica.comparisons.compare(trial, served, ["good"], ["good"])
    assert trial.stats.not_compared >= 12
    champion.go.set()
    await compared(parts, 8)


async def test_a_mirrored_request_without_a_challenger_asks_nobody(parts: Parts) -> None:
    with pytest.raises(FailedPrecondition, match="no Challenger of films is served here"):
        await parts.replica.predict_mirrored("films", ["good"])


async def test_the_control_plane_and_prometheus_see_the_same_numbers(parts: Parts) -> None:
    await parts.replica.predict(REVIEWS, ["good"])
    await parts.replica.predict_mirrored("reviews", ["good", "good"])
    await compared(parts, 1)
    servicer = ReplicaServicer(parts.replica, "r1", "cpu")
    context: grpc.aio.ServicerContext = None  # type: ignore[assignment,type-arg]
    state = await servicer.GetState(replica_pb2.GetStateRequest(), context)
    champion, challenger = (slot.stats for slot in state.slots)
    assert (champion.answered, champion.texts, dict(champion.labels)["good"]) == (1, 1, 1)
    assert sum(champion.latency) == 1
    assert champion.latency[-1] == 1  # zeros at the end are left out
    assert champion.HasField("since")
    assert (challenger.compared, challenger.agreed, challenger.disagreed) == (1, 2, 0)
    registry = CollectorRegistry()
    registry.register(SlotCollector(parts.slots))
    page = generate_latest(registry).decode()
    labels = 'alias="Challenger",model="reviews",version="2"'
    assert f"mesh_answered_requests_total{{{labels}}} 1.0" in page
    assert 'outcome="agreed"' in page
    assert 'mesh_answer_seconds_bucket{alias="Champion",le="+Inf"' in page


def test_buckets_are_a_quarter_of_a_doubling() -> None:
    assert (bucket_of(0.0), bucket_of(0.25), bucket_of(0.5), bucket_of(1e9)) == (0, 0, 4, 72)
    for bucket in range(1, BUCKETS - 1):
        assert bucket_of(upper_ms(bucket) * 0.999) == bucket
        assert bucket_of(upper_ms(bucket) * 1.001) == bucket + 1
    assert quantile_ms([0, 0, 0, 0, 9, 0, 0, 0, 1], 0.5) == 0.5
    assert quantile_ms([0, 0, 0, 0, 9, 0, 0, 0, 1], 0.99) == 1.0
    assert quantile_ms([], 0.5) == 0.0


async def compared(parts: Parts, requests: int) -> None:
    async def are_compared() -> bool:
        return stats(parts, TRIAL).compared >= requests

    await until(are_compared)
