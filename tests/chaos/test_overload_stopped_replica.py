"""SIGTERM to a replica with a long queue.

Invariants: what it had taken is answered, what comes afterwards is told to go elsewhere, and it
ends by itself.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.chaos.conftest import Hold
from tests.twins.steered_replica_process import SteeredProcess, steered_process

# gRPC itself says CANCELLED to a call that was on its way in when the server stopped. Envoy tries
# both on another replica.
ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
TOO_SHORT = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
WAITING = 500
DRAIN_S = 1.0


async def test_stopped_replica(tmp_path: Path, hold: Hold) -> None:
    async with steered_process(tmp_path, DRAIN_S) as replica:
        replica.hold()
        calls = [asyncio.create_task(replica.predict()) for _ in range(WAITING)]
        await health(replica, health_pb2.HealthCheckResponse.SERVING)
        replica.process.terminate()
        await health(replica, health_pb2.HealthCheckResponse.NOT_SERVING)
        # Balancers see it within the drain time; who calls until then is still answered.
        calls.append(asyncio.create_task(replica.predict()))
        late = await refusal(replica)
        hold("who comes too late is told to go elsewhere", late in ELSEWHERE, late.name)
        replica.let_go()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        codes = Counter(type(answer).__name__ for answer in answers)
        hold(
            "what was taken is answered",
            codes == {"PredictResponse": WAITING + 1},
            f"{codes['PredictResponse']} of {len(calls)}",
        )
        async with asyncio.timeout(30):
            code = await replica.process.wait()
        hold("it ends by itself", code == 0, f"exit code {code}")


async def refusal(replica: SteeredProcess) -> grpc.StatusCode:
    """What calls end with while the engine stands still, but for what tells of their deadline."""
    async with asyncio.timeout(30):
        while True:
            try:
                await replica.predict(timeout_s=0.2)
            except aio.AioRpcError as error:
                if error.code() not in TOO_SHORT:
                    return error.code()


async def health(replica: SteeredProcess, wanted: int) -> None:
    """Wait until it says so of itself."""
    stub: Any = health_pb2_grpc.HealthStub(replica.channel)
    async with asyncio.timeout(30):
        while (await stub.Check(health_pb2.HealthCheckRequest())).status != wanted:
            await asyncio.sleep(0.02)
