"""10,000 calls at once on a replica whose engine stands still.

Invariants: the queue's bound holds, what does not fit is refused with a retry delay, memory is
bounded, cancelled calls make room, and all that was taken is answered once the engine goes on.
"""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc import aio
from grpc_status import rpc_status

from mesh.v1 import predict_pb2
from tests.chaos.conftest import Hold
from tests.twins.steered_replica_process import SteeredProcess, steered_process

CALLS = 10_000
ROOM = 4_096
CANCELLED = 2_000
# Of a call that waits, all that belongs to it.
MOST_KIB_A_CALL = 64

Calls = set[asyncio.Task[predict_pb2.PredictResponse]]


async def test_waiting_calls(tmp_path: Path, hold: Hold) -> None:
    async with steered_process(tmp_path) as replica:
        await replica.predict()
        before = replica.resident_mib()
        replica.hold()
        calls = {asyncio.create_task(replica.predict()) for _ in range(CALLS)}
        refused = await ended(calls, CALLS - ROOM)
        hold(
            "refused with a retry delay",
            all(tells_when(call) for call in refused) and len(refused) == CALLS - ROOM,
            f"{len(refused):,} of {CALLS:,}",
        )
        grown = replica.resident_mib() - before
        most = CALLS * MOST_KIB_A_CALL / 1024
        hold("memory is bounded", grown < most, f"+{grown:.0f} MiB, at most {most:.0f}")

        waiting = calls - refused
        leaving = set(list(waiting)[:CANCELLED])
        for call in leaving:
            call.cancel()
        await asyncio.wait(leaving)
        taken = await admitted(replica, CANCELLED)
        hold("cancelled calls leave the queue", len(taken) == CANCELLED, f"{len(taken):,} came in")

        replica.let_go()
        left = (waiting - leaving) | taken
        answers = await asyncio.gather(*left, return_exceptions=True)
        codes = Counter(type(answer).__name__ for answer in answers)
        hold(
            "what was taken is answered",
            codes == {"PredictResponse": ROOM},
            f"{codes['PredictResponse']:,} of {len(left):,}",
        )
        assert (await replica.predict(timeout_s=10)).predictions[0].label == "good"


async def ended(calls: Calls, count: int) -> Calls:
    """Wait until so many calls have ended."""
    done: Calls = set()
    async with asyncio.timeout(120):
        while len(done) < count:
            found, calls = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            done |= found
    return done


async def admitted(replica: SteeredProcess, count: int) -> Calls:
    """Calls that are taken in; a cancellation is on its way for a moment."""
    taken: Calls = set()
    async with asyncio.timeout(60):
        while len(taken) < count:
            more = {asyncio.create_task(replica.predict()) for _ in range(count - len(taken))}
            # A refusal comes before the answer of a call that was sent later.
            await probe(replica)
            taken |= {call for call in more if not call.done()}
    return taken


async def probe(replica: SteeredProcess) -> None:
    """Wait until the replica has looked at all calls so far."""
    method: Any = replica.channel.unary_unary("/mesh.v1.PredictService/GetModel")
    for _ in range(20):
        await method(predict_pb2.GetModelRequest(model="reviews").SerializeToString())


def tells_when(call: asyncio.Task[predict_pb2.PredictResponse]) -> bool:
    """The call was refused, with a time to come back."""
    error = call.exception()
    if not isinstance(error, aio.AioRpcError):
        return False
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    delay = error_details_pb2.RetryInfo()
    return (
        error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        and status is not None
        and status.details[0].Unpack(delay)
        and delay.retry_delay.ToTimedelta().total_seconds() > 0
    )
