"""SIGTERM to a replica with a long queue.

Invariants: the replica answers the calls that it had taken, refuses later calls with a code with
which Envoy tries another replica, and ends by itself.
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

# With these codes Envoy sends a call to another replica. gRPC itself answers CANCELLED to a call
# that was on its way in when the server stopped.
ELSEWHERE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
# Codes that only tell that a call's deadline is too short for the queue.
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
        # Within the drain time Envoy sees that the replica is NOT_SERVING. Until then calls still
        # come, and the replica takes them.
        calls.append(asyncio.create_task(replica.predict()))
        late = await refusal(replica)
        hold("calls after the drain go to another replica", late in ELSEWHERE, late.name)
        replica.let_go()
        answers = await asyncio.gather(*calls, return_exceptions=True)
        codes = Counter(type(answer).__name__ for answer in answers)
        hold(
            "calls that were taken are answered",
            codes == {"PredictResponse": WAITING + 1},
            f"{codes['PredictResponse']} of {len(calls)}",
        )
        async with asyncio.timeout(30):
            code = await replica.process.wait()
        hold("the replica ends by itself", code == 0, f"exit code {code}")


async def refusal(replica: SteeredProcess) -> grpc.StatusCode:
    """Call until a call ends with another code than those of TOO_SHORT; return that code."""
    async with asyncio.timeout(30):
        while True:
            try:
                await replica.predict(timeout_s=0.2)
            except aio.AioRpcError as error:
                if error.code() not in TOO_SHORT:
                    return error.code()


async def health(replica: SteeredProcess, wanted: int) -> None:
    """Wait until the replica's own health service answers `wanted`."""
    stub: Any = health_pb2_grpc.HealthStub(replica.channel)
    async with asyncio.timeout(30):
        while (await stub.Check(health_pb2.HealthCheckRequest())).status != wanted:
            await asyncio.sleep(0.02)
