"""The registry is asked seldom about models that are not served."""

import asyncio

from inference_svc.serving.unserved_models import LOOKUPS_AT_ONCE, REMEMBERED_NAMES, UnservedModels
from tests.twins.replica import Clock, FakeRegistry


async def test_calls_for_one_model_share_the_lookups_that_are_under_way(
    registry: FakeRegistry,
) -> None:
    unserved = UnservedModels(registry, timeout_s=1)
    await asyncio.gather(*(unserved.explain("films", []) for _ in range(20)))
    assert 1 <= registry.lookups <= LOOKUPS_AT_ONCE


async def test_answers_are_remembered_for_a_while_and_for_few_names(
    registry: FakeRegistry,
) -> None:
    clock = Clock()
    unserved = UnservedModels(registry, timeout_s=1, clock=clock)
    for number in range(REMEMBERED_NAMES + 1):
        await unserved.explain(f"films_{number}", [])
    lookups = registry.lookups
    await unserved.explain(f"films_{REMEMBERED_NAMES}", [])
    assert registry.lookups == lookups
    await unserved.explain("films_0", [])
    assert registry.lookups == lookups + 1
    clock.now += 10
    await unserved.explain("films_0", [])
    assert registry.lookups == lookups + 2
