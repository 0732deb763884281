"""How many calls about one model are let in at the same time."""

import asyncio

import pytest

from service_kit.errors import Unavailable
from trigger_svc.dataset.model_gate import ModelGate


async def hold(gate: ModelGate, model: str, inside: list[str], leave: asyncio.Event) -> None:
    async with gate.enter(model):
        inside.append(model)
        await leave.wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_calls_beyond_the_limit_wait_and_other_models_do_not() -> None:
    gate, leave = ModelGate(at_once=2, waiting=3, wait_s=60), asyncio.Event()
    inside: list[str] = []
    tasks = [asyncio.create_task(hold(gate, "slow", inside, leave)) for _ in range(5)]
    await settle()
    async with gate.enter("quick"):
        assert inside == ["slow", "slow"]
    with pytest.raises(Unavailable, match="5 other calls about slow are at work or wait"):
        async with gate.enter("slow"):
            pass
    leave.set()
    await asyncio.gather(*tasks)
    assert inside == ["slow"] * 5


async def test_a_call_that_waits_too_long_is_told_and_leaves_no_trace() -> None:
    gate, leave = ModelGate(at_once=1, waiting=3, wait_s=0.01), asyncio.Event()
    task = asyncio.create_task(hold(gate, "slow", [], leave))
    await settle()
    with pytest.raises(Unavailable, match=r"longer than 0.01 s: its table may be locked"):
        async with gate.enter("slow"):
            pass
    leave.set()
    await task
    async with gate.enter("slow"):
        pass


async def test_a_caller_who_leaves_while_it_waits_gives_its_place_up() -> None:
    gate, leave = ModelGate(at_once=1, waiting=1, wait_s=60), asyncio.Event()
    inside: list[str] = []
    first = asyncio.create_task(hold(gate, "slow", inside, leave))
    second = asyncio.create_task(hold(gate, "slow", inside, leave))
    await settle()
    second.cancel()
    await settle()
    third = asyncio.create_task(hold(gate, "slow", inside, leave))
    await settle()
    leave.set()
    await asyncio.gather(first, third)
    assert inside == ["slow", "slow"]
    assert second.cancelled()
