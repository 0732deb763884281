"""Versions are swapped without harm to requests, and Challengers come and go."""

import asyncio

from tests.unit.inference.parts import REVIEWS, TRIAL, Parts


async def test_request_in_flight_finishes_on_the_version_it_began_on(parts: Parts) -> None:
    await parts.reload("1")
    old = parts.engine.loaded[0]
    old.go.clear()
    call = asyncio.create_task(parts.replica.predict(REVIEWS, ["good"]))
    assert await asyncio.to_thread(old.started.acquire, timeout=10)
    await parts.replica.prepare(REVIEWS, "2")
    swap = await parts.replica.activate(REVIEWS, "2")
    assert (swap.from_version, swap.drained_requests) == ("1", 1)
    assert not parts.freed
    old.go.set()
    assert (await call).served.version == "1"
    assert len(parts.freed) == 1
    assert (await parts.replica.predict(REVIEWS, ["good"])).served.version == "2"


async def test_a_challenger_that_becomes_the_champion_is_not_loaded_again(parts: Parts) -> None:
    await parts.reload("1")
    await parts.reload("2", TRIAL)
    await parts.reload("2")
    assert parts.version() == "2"
    assert len(parts.engine.loaded) == 2
    await parts.replica.abort(TRIAL, "2")
    assert (await parts.replica.predict(REVIEWS, ["good"])).served.slot == REVIEWS


async def test_a_challenger_that_is_aborted_leaves_the_champion_to_answer(parts: Parts) -> None:
    await parts.reload("1")
    await parts.reload("2", TRIAL)
    assert (await parts.replica.predict(TRIAL, ["good"])).served.version == "2"
    await parts.replica.abort(TRIAL, "3")
    assert (await parts.replica.predict(TRIAL, ["good"])).served.version == "2"
    await parts.replica.abort(TRIAL, "2")
    assert (await parts.replica.predict(TRIAL, ["good"])).served.version == "1"
