"""Upkeep: replicas that lag behind are repaired, and each moment is noted once."""

import asyncio

from service_kit.model_registry.records import TAG_FIRST_ANSWER_AT, TAG_RELOADED_AT
from tests.real_parts.waiting import until
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica, moment


def mesh(*served: str, **aliases: str) -> TwinMesh:
    replicas = [
        TwinReplica(f"r{index + 1}", **({"reviews": version} if version else {}))
        for index, version in enumerate(served)
    ]
    return TwinMesh(TwinRegistry(**(aliases or {"Champion": "2", "Serving": "2"})), *replicas)


async def test_a_stale_replica_is_brought_to_the_served_version() -> None:
    twin = mesh("2", "1")
    await twin.settle()
    assert twin.served == ["2", "2"]


async def test_a_replica_that_joins_empty_is_brought_to_the_served_version() -> None:
    twin = mesh("2", "")
    await twin.settle()
    assert twin.served == ["2", "2"]


async def test_a_crash_after_the_record_is_carried_forward() -> None:
    twin = mesh("1", "1")
    for replica in twin.replicas:
        replica.ready["reviews"] = "2"
    await twin.settle()
    assert twin.served == ["2", "2"]


async def test_a_crash_before_the_record_leaves_nothing_prepared() -> None:
    twin = mesh("1", "1", Champion="2", Serving="1")
    for replica in twin.replicas:
        replica.ready["reviews"] = "2"
    await twin.settle()
    assert twin.served == ["1", "1"]
    assert not any(replica.ready for replica in twin.replicas)


async def test_a_promotion_alone_moves_no_replica() -> None:
    twin = mesh("1", "1", Champion="2", Serving="1")
    await twin.settle()
    assert twin.served == ["1", "1"]


async def test_a_repair_that_failed_waits_before_the_next_try() -> None:
    twin = mesh("2", "1")
    twin.replicas[1].fail_at = "load"
    await twin.settle()
    await twin.settle()
    assert twin.replicas[1].calls.count("prepare 2") == 1


async def test_a_reload_takes_a_repair_over() -> None:
    twin = mesh("1", "2", Champion="3", Serving="1")
    stale = twin.replicas[1]
    stale.gate = asyncio.Event()
    await twin.upkeep.look()
    await stale.preparing.wait()
    reload = asyncio.create_task(twin.coordinator.reload("reviews", "", "a"))
    await until(lambda: "abort 1" in stale.calls)
    stale.gate.set()
    assert (await reload).to_version == "3"
    assert stale.calls == ["prepare 1", "abort 1", "prepare 3", "activate 3"]
    assert twin.served == ["3", "3"]
    await twin.settle()
    assert twin.served == ["3", "3"]


async def test_the_earliest_first_answer_is_noted_once() -> None:
    twin = mesh("2", "2")
    twin.replicas[0].first_answers["2"] = moment(7)
    twin.replicas[1].first_answers["2"] = moment(5)
    await twin.settle()
    assert twin.registry.tags["2"][TAG_FIRST_ANSWER_AT] == "2026-01-01T12:00:05.000+00:00"
    twin.replicas[1].first_answers["2"] = moment(3)
    await twin.settle()
    twin.start()
    await twin.settle()
    assert twin.registry.tags["2"][TAG_FIRST_ANSWER_AT] == "2026-01-01T12:00:05.000+00:00"


async def test_a_reload_that_crashed_before_its_tag_gets_it() -> None:
    twin = mesh("2", "2")
    await twin.settle()
    assert TAG_RELOADED_AT in twin.registry.tags["2"]


async def test_the_loop_outlives_a_registry_that_is_away() -> None:
    twin = mesh("2", "1")
    twin.registry.up = False
    loop = asyncio.create_task(twin.upkeep.run())
    await until(lambda: twin.registry.refused_calls >= 2)
    twin.registry.up = True
    await until(lambda: twin.served == ["2", "2"])
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await twin.repairs.close()
