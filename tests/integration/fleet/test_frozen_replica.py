"""Real replicas that stop working without a word: Envoy gives their calls to another replica."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from control_plane.topology import Address, MeshTopology
from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.real_parts.envoy import running_envoy
from tests.real_parts.postgres import free_port
from tests.twins.steered_replica_process import MODEL, SteeredProcess, steered_process

STALLED_S = 2.0
# A call waits for STALLED_S, and then for its turn on a busy machine.
MOST_S = STALLED_S + 8.0
CALLS = 24


@dataclass
class Fleet:
    replicas: list[SteeredProcess]
    channel: aio.Channel

    async def answered_by(self) -> set[str]:
        """Call many times at once; return who answered. Raises when a call fails or takes long."""
        stub: Any = predict_pb2_grpc.PredictServiceStub(self.channel)
        request = predict_pb2.PredictRequest(model=MODEL, texts=["a good film"])
        begun = time.monotonic()
        answers = await asyncio.gather(*(stub.Predict(request, timeout=25) for _ in range(CALLS)))
        assert time.monotonic() - begun < MOST_S
        return {answer.replica for answer in answers}


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    for name in ("r1", "r2"):
        (tmp_path / name).mkdir()
    nowhere = Address("127.0.0.1", 1)
    async with steered_process(tmp_path / "r1") as r1, steered_process(tmp_path / "r2") as r2:
        topology = MeshTopology(
            (r1.address, r2.address),
            *(nowhere, nowhere, nowhere),
            replicas_unary=(r1.unary_address, r2.unary_address),
            port=free_port(),
            admin_port=free_port(),
            stalled_after_s=STALLED_S,
        )
        async with (
            running_envoy(tmp_path, topology) as envoy,
            aio.insecure_channel(envoy.address) as channel,
        ):
            await envoy.wait_healthy("champion-unary", 2)
            yield Fleet([r1, r2], channel)


async def test_a_process_that_is_frozen(fleet: Fleet) -> None:
    assert await fleet.answered_by() == {"r1", "r2"}
    frozen = fleet.replicas[0].process
    frozen.send_signal(signal.SIGSTOP)
    try:
        assert await fleet.answered_by() == {"r2"}
    finally:
        frozen.send_signal(signal.SIGCONT)


async def test_an_engine_that_hangs_while_its_process_answers_health_checks(fleet: Fleet) -> None:
    assert await fleet.answered_by() == {"r1", "r2"}
    fleet.replicas[0].hold()
    try:
        assert await fleet.answered_by() == {"r2"}
    finally:
        fleet.replicas[0].let_go()
