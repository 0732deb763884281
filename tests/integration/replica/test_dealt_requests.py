"""A real Envoy deals by keys; of a real replica the control plane reads only what Envoy dealt."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from control_plane.fleet.grpc_replica import GrpcReplica
from control_plane.fleet.replica_client import Role
from control_plane.fleet.slot_stats import SlotStats
from control_plane.topology import Address, MeshTopology, Split
from inference import open_inference_pb2 as oip
from inference import open_inference_pb2_grpc
from inference_svc.main import REFLECTED
from inference_svc.metrics.key_buckets import key_bucket
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc
from service_kit.model_registry.records import CHAMPION, SERVING, VersionRef
from service_kit.server import GrpcServer
from tests.real_parts.envoy import running_envoy
from tests.real_parts.postgres import free_port
from tests.twins.replica import FakeRegistry, SteeredEngine, write_steered_version

NOBODY = Address("127.0.0.1", 1)


@dataclass
class Dealt:
    """A replica whose `reviews` are split by halves and all mirrored; all of `films` is whole."""

    channel: aio.Channel
    replica: GrpcReplica

    async def predict(self, calls: int, model: str = "reviews", key: str | None = None) -> None:
        """Ask one after the other, as callers with this key."""
        stub: Any = predict_pb2_grpc.PredictServiceStub(self.channel)
        metadata = (("x-mesh-key", key),) if key is not None else ()
        request = pb.PredictRequest(model=model, texts=["good", "bad"])
        for _ in range(calls):
            await stub.Predict(request, timeout=20, metadata=metadata)

    async def infer(self, calls: int, version: str = "") -> None:
        """Ask by the Open Inference Protocol."""
        stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(self.channel)
        tensor = oip.ModelInferRequest.InferInputTensor(name="text", datatype="BYTES", shape=[1])
        tensor.contents.bytes_contents.append(b"good")
        request = oip.ModelInferRequest(
            model_name="reviews", model_version=version, inputs=[tensor]
        )
        for _ in range(calls):
            await stub.ModelInfer(request, timeout=20)

    async def stats(self, model: str = "reviews") -> dict[Role, SlotStats]:
        """What the control plane reads."""
        state = await self.replica.state(10)
        return {slot.role: slot.stats for slot in state.slots if slot.model == model}


@pytest.fixture
async def dealt(tmp_path: Path) -> AsyncIterator[Dealt]:
    registry = FakeRegistry()
    for version in ("1", "2"):
        registry.add("reviews", version, write_steered_version(tmp_path / version))
    registry.models["reviews"] = {CHAMPION: "1", SERVING: "1"}
    registry.add("films", "1", tmp_path / "1", CHAMPION, SERVING)
    settings = InferenceSettings(
        replica_id="replica-1",
        state_dir=tmp_path / "state",
        unary_port=free_port(),
        drain_seconds=0,
        grace_seconds=1,
    )
    service = InferenceService(settings, SteeredEngine(), lambda: registry)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(GrpcServer(service, settings, REFLECTED))
        replica = GrpcReplica(server.address)
        stack.push_async_callback(replica.close)
        await replica.prepare("reviews", VersionRef("2"), Role.CHALLENGER, 20)
        await replica.activate("reviews", VersionRef("2"), Role.CHALLENGER, 20)
        topology = MeshTopology(
            (Address.parse(server.address),),
            training=NOBODY,
            trigger=NOBODY,
            control_plane=NOBODY,
            replicas_unary=(Address("127.0.0.1", settings.unary_port),),
            splits=(("reviews", Split(50, 50, 100)),),
            port=free_port(),
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(tmp_path, topology))
        for cluster in ("champion-unary", "challenger-unary"):
            await envoy.wait_healthy(cluster, 1)
        channel = await stack.enter_async_context(aio.insecure_channel(envoy.address))
        yield Dealt(channel, replica)


async def test_only_dealt_requests_are_compared_and_a_key_is_in_one_bucket(dealt: Dealt) -> None:
    await dealt.predict(20, key="heavy")
    heavy = await dealt.stats()
    answered = {role: stats.total.answered for role, stats in heavy.items()}
    assert sorted(answered.values()) == [0, 20]
    chosen = max(answered, key=lambda role: answered[role])
    assert heavy[chosen].buckets[key_bucket("heavy")].answered == 20
    assert heavy[chosen].total.texts == 40
    await dealt.predict(40)
    await dealt.infer(10)
    stats = await dealt.stats()
    sides = [stats[role].total for role in (Role.CHAMPION, Role.CHALLENGER)]
    # Every request was mirrored or answered by the Challenger, and each is counted once.
    assert sum(side.answered for side in sides) == 70
    assert min(side.answered for side in sides) >= 5
    assert sum(sum(side.latency) for side in sides) == 70
    assert sum(1 for bucket in stats[chosen].buckets if bucket.answered) > 5


async def test_what_no_split_dealt_is_left_out(dealt: Dealt) -> None:
    await dealt.predict(5, model="films")
    await dealt.infer(5, version="1")
    stream: Any = predict_pb2_grpc.PredictServiceStub(dealt.channel)
    request = pb.PredictRequest(model="reviews", texts=["good"], id="a")
    async for answer in stream.PredictStream(iter([request]), timeout=20):
        assert answer.response.predictions
    films = await dealt.stats("films")
    assert films[Role.CHAMPION].buckets == ()
    for stats in (await dealt.stats()).values():
        assert stats.total.answered == stats.total.failed == 0


async def test_copies_are_compared_by_their_keys(dealt: Dealt) -> None:
    # Envoy copies every request of the split, whichever version answers it.
    keys = [f"caller {number}" for number in range(8)]
    for key in keys:
        await dealt.predict(1, key=key)
    async with asyncio.timeout(20):
        while True:
            challenger = (await dealt.stats())[Role.CHALLENGER]
            compared = (challenger.total.agreed + challenger.total.disagreed) // 2
            if compared + challenger.not_compared == len(keys):
                break
            await asyncio.sleep(0.05)
    places = {place for place, one in enumerate(challenger.buckets) if one.agreed + one.disagreed}
    assert places
    assert places <= {key_bucket(key) for key in keys}
