"""Envoy before two replicas, one of which cannot compute: no caller notices it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from control_plane.topology import Address, MeshTopology
from inference_svc.main import REFLECTED
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.server import GrpcServer
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import free_port
from tests.twins.replica import FakeRegistry, SteeredEngine, write_steered_version

LOST = RuntimeError("CUDA error: unspecified launch failure")
NOBODY = Address("127.0.0.1", 1)


@dataclass
class Pair:
    """Two replicas with two models each, behind an Envoy."""

    engines: tuple[SteeredEngine, SteeredEngine]
    exit_codes: list[int]
    envoy: RunningEnvoy
    stub: Any

    async def ask(self, calls: int, model: str = "reviews", at_once: int = 8) -> list[str]:
        """Make calls, so many at once; return the replicas that answered."""
        permits = asyncio.Semaphore(at_once)

        async def ask_once() -> str:
            async with permits:
                request = pb.PredictRequest(model=model, texts=["good"])
                answer: pb.PredictResponse = await self.stub.Predict(request, timeout=20)
                return answer.replica

        return await asyncio.gather(*(ask_once() for _ in range(calls)))


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    registry = FakeRegistry()
    files = write_steered_version(tmp_path / "files")
    for model in ("films", "reviews"):
        registry.add(model, "1", files, CHAMPION, SERVING)
    engines, exit_codes = (SteeredEngine(), SteeredEngine()), list[int]()
    addresses, unary = [], []
    async with AsyncExitStack() as stack:
        for number, engine in enumerate(engines, start=1):
            settings = InferenceSettings(
                replica_id=f"replica-{number}",
                state_dir=tmp_path / str(number),
                unary_port=free_port(),
                drain_seconds=0,
                grace_seconds=1,
            )
            service = InferenceService(settings, engine, lambda: registry, exit_codes.append)
            server = await stack.enter_async_context(GrpcServer(service, settings, REFLECTED))
            addresses.append(Address.parse(server.address))
            unary.append(Address("127.0.0.1", settings.unary_port))
        topology = MeshTopology(
            tuple(addresses),
            training=NOBODY,
            trigger=NOBODY,
            control_plane=NOBODY,
            replicas_unary=tuple(unary),
            port=free_port(),
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(tmp_path, topology))
        await envoy.wait_healthy("champion-unary", 2)
        channel = await stack.enter_async_context(aio.insecure_channel(envoy.address))
        yield Pair(engines, exit_codes, envoy, predict_pb2_grpc.PredictServiceStub(channel))


async def test_a_model_that_one_replica_cannot_compute_is_answered_by_the_other(
    pair: Pair,
) -> None:
    assert set(await pair.ask(40)) == {"replica-1", "replica-2"}
    broken = pair.engines[0]
    broken.loaded[1].lost = broken.fail_with = LOST  # films is loaded first
    answered = await pair.ask(400)
    assert set(answered) == {"replica-2"}
    # The replica that refuses is not preferred, though it computes nothing.
    retries = (await pair.envoy.stats(r"^cluster\.champion-unary\.upstream_rq_retry$")).values()
    assert sum(retries) < 200
    # Envoy leaves a replica that failed many calls in a row alone for a moment.
    async with asyncio.timeout(20):
        while set(await pair.ask(40, "films")) != {"replica-1", "replica-2"}:
            await asyncio.sleep(0.1)
    assert pair.exit_codes == []


async def test_a_replica_whose_device_is_lost_leaves_and_no_call_fails(pair: Pair) -> None:
    broken = pair.engines[0]
    broken.lost = LOST
    for classifier in broken.loaded:
        classifier.lost = LOST
    assert set(await pair.ask(200) + await pair.ask(200, "films")) == {"replica-2"}
    await pair.envoy.wait_healthy("champion-unary", 1)
