"""A model whose computations fail is taken out, and back; an engine that fails ends the replica."""

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from pathlib import Path

import grpc
import pytest

from inference_svc.batching.batcher import EngineFailure, ModelFailed
from inference_svc.batching.job import Lane
from inference_svc.doors.oip.protocol import OpenInference
from inference_svc.doors.replica_servicer import ReplicaServicer
from inference_svc.serving.slots import SlotKey
from inference_svc.serving.withdrawals import Withdrawals
from mesh.v1 import replica_pb2
from service_kit.errors import Unavailable
from tests.twins.replica import FakeRegistry, until
from tests.unit.inference.parts import REVIEWS, TRIAL, Parts

OTHER = SlotKey("other")
LOST = RuntimeError("CUDA error: device-side assert triggered")


class Watched(Parts):
    """A replica without gRPC that watches its computations."""

    def watch(self, first_pause_s: float = 0.02, check_s: float = 30) -> None:
        self.troubles: list[str] = []
        self.withdrawals = Withdrawals(
            self.slots,
            self.upcoming,
            self.batcher,
            self.engine,
            self.troubles.append,
            first_pause_s,
            check_s,
        )
        self.batcher.model_failed = self.withdrawals.model_failed
        self.replica.suspect_engine = self.withdrawals.suspect_engine


@pytest.fixture
async def watched(
    tmp_path: Path, registry: FakeRegistry, executor: Executor
) -> AsyncIterator[Watched]:
    parts = Watched(tmp_path / "state", registry, executor)
    parts.watch()
    parts.batcher.start()
    await parts.reload("1")
    await parts.reload("1", OTHER)
    yield parts
    parts.withdrawals.close()
    await parts.batcher.close()


async def is_withdrawn(parts: Parts, slot: SlotKey = REVIEWS) -> None:
    async def so() -> bool:
        return bool(parts.served(slot).withdrawn)

    await until(so)


async def is_back(parts: Parts, slot: SlotKey = REVIEWS) -> None:
    async def so() -> bool:
        return not parts.served(slot).withdrawn

    await until(so)


async def test_the_first_call_that_meets_a_lost_model_is_sent_elsewhere(watched: Watched) -> None:
    watched.engine.loaded[0].lost = LOST
    with pytest.raises(Unavailable):
        await watched.replica.predict(REVIEWS, ["good"])
    await is_withdrawn(watched)
    assert watched.served().stats.failed == 1
    # The other model's calls are answered as before.
    assert (await watched.replica.predict(OTHER, ["good"])).served.slot == OTHER


async def test_a_withdrawn_model_computes_nothing_and_says_why(watched: Watched) -> None:
    watched.withdrawals.close()
    watched.watch(first_pause_s=60)
    engine = watched.engine.loaded[0]
    engine.lost = LOST
    calls = [watched.replica.predict(REVIEWS, ["good"]) for _ in range(20)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, ModelFailed) for outcome in outcomes)
    await is_withdrawn(watched)
    batches = len(engine.batches)
    for lane in (Lane.INTERACTIVE, Lane.BULK):
        with pytest.raises(ModelFailed, match="does not answer for reviews now"):
            await watched.replica.predict(REVIEWS, ["good"], lane)
    assert len(engine.batches) == batches
    servicer = ReplicaServicer(watched.replica, "r1", "cpu")
    context: grpc.aio.ServicerContext = None  # type: ignore[assignment,type-arg]
    state = await servicer.GetState(replica_pb2.GetStateRequest(), context)
    states = {slot.model: (slot.withdrawn, slot.detail) for slot in state.slots}
    assert states == {
        "other": (False, ""),
        "reviews": (True, f"its computations fail: RuntimeError: {LOST}"),
    }
    protocol = OpenInference(watched.replica, "r1")
    protocol.ready = True
    assert [await protocol.is_ready(name, "") for name in ("reviews", "other")] == [False, True]
    assert watched.troubles == []


async def test_a_refusal_never_looks_faster_than_an_answer(watched: Watched) -> None:
    watched.served().withdrawn = "its computations fail"
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])
    assert loop.time() - started >= 0.05


async def test_a_model_that_works_again_is_taken_back(watched: Watched) -> None:
    watched.engine.loaded[0].lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])
    await is_withdrawn(watched)
    watched.engine.loaded[0].lost = None
    await is_back(watched)
    assert (await watched.replica.predict(REVIEWS, ["good"])).served.version == "1"
    assert watched.troubles == []


async def test_a_model_that_does_not_recover_is_loaded_anew(watched: Watched) -> None:
    watched.engine.loaded[0].lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])
    await is_withdrawn(watched)
    await is_back(watched)
    assert len(watched.engine.loaded) == 3
    assert (await watched.replica.predict(REVIEWS, ["good"])).served.version == "1"
    assert watched.troubles == []


async def test_a_withdrawn_model_that_cannot_be_loaded_stays_withdrawn_and_says_so(
    watched: Watched,
) -> None:
    watched.engine.fail_with = RuntimeError("no kernel image")
    watched.engine.loaded[0].lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])

    async def is_told() -> bool:
        return "no kernel image" in watched.served().withdrawn

    await until(is_told)
    assert watched.upcoming.all() == []
    watched.engine.fail_with = None
    await is_back(watched)


async def test_a_new_version_replaces_a_withdrawn_one(watched: Watched) -> None:
    watched.engine.fail_with = None
    watched.engine.loaded[0].lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])
    await is_withdrawn(watched)
    await watched.reload("2")
    assert (await watched.replica.predict(REVIEWS, ["good"])).served.version == "2"
    assert not watched.served().withdrawn


async def test_prepare_of_the_withdrawn_version_loads_it_anew(watched: Watched) -> None:
    watched.withdrawals.close()
    watched.watch(first_pause_s=60)
    watched.engine.loaded[0].lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])
    await is_withdrawn(watched)
    await watched.reload("1")
    assert (await watched.replica.predict(REVIEWS, ["good"])).served.version == "1"


async def test_the_challenger_alone_is_withdrawn(watched: Watched) -> None:
    await watched.reload("2", TRIAL)
    watched.engine.loaded[2].lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(TRIAL, ["good"])
    await is_withdrawn(watched, TRIAL)
    assert (await watched.replica.predict(REVIEWS, ["good"])).served.version == "1"
    assert watched.served(TRIAL).stats.failed == 1


async def test_texts_that_fail_withdraw_nothing(watched: Watched) -> None:
    watched.engine.loaded[0].fails_on = 4  # "bad"
    for _ in range(10):
        outcomes = await asyncio.gather(
            watched.replica.predict(REVIEWS, ["bad"]),
            watched.replica.predict(REVIEWS, ["good"]),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], EngineFailure)
        assert not isinstance(outcomes[1], BaseException)
    assert not watched.served().withdrawn
    assert watched.troubles == []


async def test_two_models_that_fail_are_the_replicas_trouble(watched: Watched) -> None:
    watched.withdrawals.close()
    watched.watch(first_pause_s=60)
    for slot, classifier in zip((REVIEWS, OTHER), watched.engine.loaded, strict=True):
        classifier.lost = LOST
        with pytest.raises(ModelFailed):
            await watched.replica.predict(slot, ["good"])
        await is_withdrawn(watched, slot)
    assert watched.troubles == ["the computations of several models fail: other, reviews"]


async def test_an_engine_that_fails_its_own_check_is_the_replicas_trouble(
    watched: Watched,
) -> None:
    watched.engine.loaded[0].lost = watched.engine.lost = LOST
    with pytest.raises(ModelFailed):
        await watched.replica.predict(REVIEWS, ["good"])

    async def is_declared() -> bool:
        return bool(watched.troubles)

    await until(is_declared)
    assert watched.troubles[0].startswith("the engine computes nothing any more: RuntimeError")


async def test_an_engine_that_is_lost_is_found_when_a_version_cannot_be_loaded(
    watched: Watched,
) -> None:
    watched.engine.fail_with = watched.engine.lost = LOST
    with pytest.raises(Exception, match="load: RuntimeError"):
        await watched.replica.prepare(REVIEWS, "2")

    async def is_declared() -> bool:
        return bool(watched.troubles)

    await until(is_declared)


async def test_a_check_that_does_not_return_is_the_replicas_trouble(watched: Watched) -> None:
    go = threading.Event()

    def hangs() -> None:
        go.wait(30)

    watched.withdrawals.close()
    watched.watch(check_s=0.05)
    watched.engine.check = hangs  # type: ignore[method-assign]
    watched.withdrawals.suspect_engine()

    async def is_declared() -> bool:
        return bool(watched.troubles)

    await until(is_declared)
    go.set()
    assert "more than" in watched.troubles[0]
