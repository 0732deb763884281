"""Requests that a split dealt are counted by a hash of their keys, and no others."""

from collections import Counter

import grpc
import pytest

from inference_svc.batching.batcher import EngineFailure
from inference_svc.doors.call_metadata import routing_in
from inference_svc.doors.replica_servicer import ReplicaServicer
from inference_svc.metrics.key_buckets import KEY_BUCKETS, MAX_LABELS, KeyBuckets, key_bucket
from inference_svc.serving.slots import SlotKey
from mesh.v1 import replica_pb2
from tests.unit.inference.parts import REVIEWS, TRIAL, Parts
from tests.unit.inference.serving.comparing import compared


def test_equal_keys_share_an_entry_on_every_replica_and_calls_without_a_key_spread() -> None:
    assert key_bucket("caller-7") == key_bucket(b"caller-7") == 55
    assert 0 <= key_bucket("\udcff") < KEY_BUCKETS
    keyed = Counter(key_bucket(f"user-{n}") for n in range(6400))
    alone = Counter(key_bucket(None) for _ in range(6400))
    for spread in (keyed, alone):
        assert len(spread) == KEY_BUCKETS
        assert max(spread.values()) < 160  # 100 expected


def test_only_a_split_gives_a_call_its_entry() -> None:
    assert routing_in({"x-mesh-key": "k"}).bucket is None
    assert routing_in({"x-mesh-key": "k", "x-mesh-role": "champion"}).bucket == key_bucket("k")
    assert routing_in({"x-mesh-role": "challenger"}).bucket is not None


async def test_what_was_not_dealt_to_a_version_is_not_in_its_entries(both: Parts) -> None:
    await both.replica.predict(REVIEWS, ["good"])
    await both.replica.predict_mirrored("reviews", ["good", "bad"], bucket=3)
    await compared(both, 1)
    # The Champion stands in for a Challenger that is not there.
    both.slots.retire(TRIAL)
    await both.replica.predict(SlotKey("reviews", "challenger"), ["good"], bucket=3)
    assert both.served().stats.answered == 2
    assert both.served().stats.dealt.all == ()


async def test_dealt_requests_are_counted_by_entry(both: Parts) -> None:
    await both.replica.predict(REVIEWS, ["good film", "bad film"], bucket=5)
    await both.replica.predict(REVIEWS, ["good"], bucket=5)
    await both.replica.predict(TRIAL, ["good"], bucket=9)
    await both.replica.predict_mirrored("reviews", ["good", "good"], bucket=5)
    await compared(both, 1)
    both.engine.loaded[0].fails_on = 4  # "bad"
    with pytest.raises(EngineFailure):
        await both.replica.predict(REVIEWS, ["bad"], bucket=6)
    servicer = ReplicaServicer(both.replica, "r1", "cpu")
    context: grpc.aio.ServicerContext = None  # type: ignore[assignment,type-arg]
    state = await servicer.GetState(replica_pb2.GetStateRequest(), context)
    champion, challenger = (slot.stats for slot in state.slots)
    assert list(champion.key_bucket_labels) == ["bad", "good"]
    assert len(champion.key_buckets) == KEY_BUCKETS
    entry = champion.key_buckets[5]
    assert (entry.answered, sum(entry.latency), sum(entry.compute)) == (2, 2, 2)
    assert sum(entry.labels) == 3
    assert (champion.key_buckets[6].answered, champion.key_buckets[6].failed) == (0, 1)
    # The mirrored request is no dealt request of the Challenger.
    assert [one.answered for one in challenger.key_buckets if one.answered] == [1]
    assert (challenger.key_buckets[5].agreed, challenger.key_buckets[5].disagreed) == (2, 0)
    assert len(state.SerializeToString()) < 4000


def test_the_labels_of_a_large_model_share_the_last_entry() -> None:
    names = [f"label {n:04}" for n in range(1000)][::-1]
    counts = KeyBuckets(names)
    counts.count_answer(0, 1, 1, [999, 998, 0, 1])
    assert len(counts.label_names) == MAX_LABELS
    assert counts.label_names[:2] == ("label 0000", "label 0001")
    assert list(counts[0].labels) == [1, 1] + [0] * (MAX_LABELS - 3) + [2]
