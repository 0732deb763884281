"""The locks of models: one change at a time, and no lock for every name that was ever asked for."""

import asyncio

from control_plane.changes.model_locks import ModelLocks


async def test_one_holder_at_a_time_in_the_order_of_asking() -> None:
    locks, order = ModelLocks(), list[int]()

    async def change(number: int) -> None:
        async with locks.of("reviews"):
            assert locks.taken("reviews")
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(change(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]
    assert not locks.taken("reviews")


async def test_names_that_nobody_holds_are_forgotten() -> None:
    locks = ModelLocks()
    for number in range(1_000):
        async with locks.of(f"m{number}"):
            assert not locks.taken("m")
    assert len(locks._locks) == 0
