"""10,000 calls at once to a replica whose engine stands still.

Invariants: the queue takes 4,096 of them; the others are refused with a retry delay; memory is
bounded; cancelled calls make room for new ones; once the engine goes on, every call that the queue
took is answered.
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
# One model gets eight ninths of the 4,096 texts that may wait.
ROOM = 3_641
CANCELLED = 2_000
# KiB of memory that one waiting call may take, everything included.
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
            all(has_retry_delay(call) for call in refused) and len(refused) == CALLS - ROOM,
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
        hold("cancelled calls leave the queue", len(taken) == CANCELLED, f"{len(taken):,} taken")

        replica.let_go()
        left = (waiting - leaving) | taken
        answers = await asyncio.gather(*left, return_exceptions=True)
        codes = Counter(type(answer).__name__ for answer in answers)
        hold(
            "calls that were taken are answered",
            codes == {"PredictResponse": ROOM},
            f"{codes['PredictResponse']:,} of {len(left):,}",
        )
        assert (await replica.predict(timeout_s=10)).predictions[0].label == "good"


async def ended(calls: Calls, count: int) -> Calls:
    """Wait until at least `count` calls have ended; return those that have."""
    done: Calls = set()
    async with asyncio.timeout(120):
        while len(done) < count:
            newly_done, calls = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            done |= newly_done
    return done


async def admitted(replica: SteeredProcess, count: int) -> Calls:
    """Send calls until the queue has taken `count` of them; return those.

    It refuses some at first: the replica learns of the cancellations a moment later.
    """
    taken: Calls = set()
    async with asyncio.timeout(60):
        while len(taken) < count:
            more = {asyncio.create_task(replica.predict()) for _ in range(count - len(taken))}
            # The replica refuses a call before it answers one that was sent later, so calls that
            # are not done after these were taken.
            await answered_later(replica)
            taken |= {call for call in more if not call.done()}
    return taken


async def answered_later(replica: SteeredProcess) -> None:
    """Wait for the answers to calls that need no engine, sent after all others so far."""
    method: Any = replica.channel.unary_unary("/mesh.v1.PredictService/GetModel")
    for _ in range(20):
        await method(predict_pb2.GetModelRequest(model="reviews").SerializeToString())


def has_retry_delay(call: asyncio.Task[predict_pb2.PredictResponse]) -> bool:
    """The call was refused with a retry delay."""
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
