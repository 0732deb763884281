"""What a replica counts of its answers, and who sees the counts."""

import asyncio

import grpc
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from inference_svc.batching.batcher import EngineFailure
from inference_svc.batching.job import Lane
from inference_svc.doors.replica_servicer import ReplicaServicer
from inference_svc.serving.slot_collector import SlotCollector
from mesh.v1 import replica_pb2
from service_kit.errors import DeadlineTooShort, InvalidArgument
from service_kit.histogram import BUCKETS, bucket_of, quantile_ms, upper_ms
from tests.unit.inference.parts import REVIEWS, TRIAL, Parts
from tests.unit.inference.serving.comparing import compared


async def test_every_request_is_counted_with_its_time_and_its_labels(both: Parts) -> None:
    await both.replica.predict(REVIEWS, ["good film", "bad film"])
    await both.replica.predict(REVIEWS, ["good"])
    counts = both.served().stats
    assert (counts.answered, counts.texts, counts.failed) == (2, 3, 0)
    assert counts.by_label() == {"bad": 0, "good": 3}
    assert sum(counts.latency) == sum(counts.compute) == 2
    assert both.served(TRIAL).stats.answered == 0


async def test_bulk_is_not_counted(both: Parts) -> None:
    await both.replica.predict(REVIEWS, ["good"], Lane.BULK)
    assert both.served().stats.answered == 0


async def test_only_the_servers_faults_are_failures(both: Parts) -> None:
    engine = both.engine.loaded[0]
    engine.fails_on = 4  # "bad"
    with pytest.raises(EngineFailure):
        await both.replica.predict(REVIEWS, ["bad"])
    with pytest.raises(InvalidArgument):
        await both.replica.predict(REVIEWS, [""])
    with pytest.raises(DeadlineTooShort, match="deadline"):
        await both.replica.predict(REVIEWS, ["good"], deadline=0.0)
    _, call = await both.held()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    engine.go.set()
    assert (both.served().stats.answered, both.served().stats.failed) == (0, 1)


async def test_a_new_activation_counts_from_zero(both: Parts) -> None:
    await both.replica.predict(REVIEWS, ["good"])
    await both.reload("3")
    assert both.served().stats.answered == 0


async def test_the_control_plane_and_prometheus_see_the_same_numbers(both: Parts) -> None:
    await both.replica.predict(REVIEWS, ["good"])
    await both.replica.predict_mirrored("reviews", ["good", "good"])
    await compared(both, 1)
    servicer = ReplicaServicer(both.replica, "r1", "cpu")
    context: grpc.aio.ServicerContext = None  # type: ignore[assignment,type-arg]
    state = await servicer.GetState(replica_pb2.GetStateRequest(), context)
    champion, challenger = (slot.stats for slot in state.slots)
    assert (champion.answered, champion.texts, dict(champion.labels)["good"]) == (1, 1, 1)
    assert sum(champion.latency) == 1
    assert champion.latency[-1] == 1  # zeros at the end are left out
    assert champion.HasField("since")
    assert (challenger.compared, challenger.agreed, challenger.disagreed) == (1, 2, 0)
    registry = CollectorRegistry()
    registry.register(SlotCollector(both.slots))
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
