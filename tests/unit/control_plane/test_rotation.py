"""Who gets traffic, and how it is split."""

import asyncio

import pytest

from control_plane.models.stored_split import TAG_TRAFFIC
from control_plane.topology import ALL_TO_THE_CHAMPION, Split
from control_plane.traffic.envoy_targets import CATCH_UP_S, GRACE_S
from service_kit.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica

TRIAL = Split(90, 10, 5)
MORE = Split(50, 50, 5)


def two(version: str = "1") -> tuple[TwinReplica, TwinReplica]:
    return TwinReplica("r1", reviews=version), TwinReplica("r2", reviews=version)


def on_trial() -> TwinMesh:
    return TwinMesh(TwinRegistry(Champion="1", Serving="1", Challenger="2"), *two())


async def test_who_serves_the_fleets_version_gets_traffic() -> None:
    mesh = TwinMesh(
        TwinRegistry(Serving="2"), TwinReplica("r1", reviews="2"), TwinReplica("r2", reviews="1")
    )
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1"]
    await mesh.settle()
    assert mesh.envoy.replicas == ["r1", "r2"]


async def test_http_follows_rotation_and_some_have_none() -> None:
    mesh = TwinMesh(
        TwinRegistry(Serving="1"),
        TwinReplica("r1", reviews="1"),
        TwinReplica("r2", reviews="1"),
        TwinReplica("r3", reviews="1"),
    )
    first, second, _ = mesh.replicas
    first.http_port, second.http_port = 11, 12
    second.unary_port = 13
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2", "r3"]
    assert mesh.envoy.http_listeners == ["r1:11", "r2:12"]
    first.kill()
    await mesh.upkeep.look()
    # As long as its gRPC address has its place, so has its HTTP one.
    assert mesh.envoy.http_listeners == ["r1:11", "r2:12"]
    mesh.now += GRACE_S
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r2", "r3"]
    assert mesh.envoy.http_listeners == ["r2:12"]
    assert mesh.envoy.unary == ["r2:13"]


async def test_a_model_that_nobody_serves_does_not_stop_the_others() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="3"), *two("1"))
    for replica in mesh.replicas:
        replica.fail_at = "load"
    await mesh.settle()
    assert mesh.envoy.replicas == ["r1", "r2"]


async def test_who_could_not_follow_is_out_when_reload_answers() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="2", Serving="1"), *two())
    await mesh.upkeep.look()
    mesh.replicas[1].fail_activations = 1000
    await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.envoy.replicas == ["r1"]


async def test_a_change_takes_nobody_out_while_it_runs() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="2", Serving="1"), *two())
    await mesh.upkeep.look()
    mesh.replicas[0].gate = asyncio.Event()
    change = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[0].preparing.wait()
    assert mesh.envoy.topology.preparing
    mesh.registry.aliases["Serving"] = "2"  # recorded, and nobody has activated it yet
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]
    mesh.replicas[0].gate.set()
    await change
    assert mesh.envoy.replicas == ["r1", "r2"]
    assert mesh.served == ["2", "2"]
    mesh.now += CATCH_UP_S / 2
    await mesh.upkeep.look()
    assert mesh.envoy.topology.preparing
    mesh.now += CATCH_UP_S
    await mesh.upkeep.look()
    assert not mesh.envoy.topology.preparing


async def test_a_replica_that_does_not_answer_once_keeps_its_place() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two())
    await mesh.upkeep.look()
    mesh.replicas[0].kill()
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]
    mesh.now += 60
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r2"]


async def test_a_control_plane_that_reaches_nobody_changes_nothing() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two())
    await mesh.upkeep.look()
    for replica in mesh.replicas:
        replica.kill()
    mesh.now += 60
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]


async def test_a_split_is_all_the_champions_by_default() -> None:
    mesh = on_trial()
    assert await mesh.traffic.get("reviews") == ALL_TO_THE_CHAMPION
    assert await mesh.traffic.set("reviews", ALL_TO_THE_CHAMPION) == ALL_TO_THE_CHAMPION
    with pytest.raises(NotFound):
        await mesh.traffic.get("films")


async def test_a_split_prepares_the_challenger_everywhere_and_survives_a_restart() -> None:
    mesh = on_trial()
    assert await mesh.traffic.set("reviews", TRIAL, "a") == TRIAL
    assert [replica.challengers for replica in mesh.replicas] == [{"reviews": "2"}] * 2
    assert mesh.envoy.topology.splits == (("reviews", TRIAL),)
    mesh.start()
    await mesh.upkeep.look()
    assert mesh.envoy.topology.splits == (("reviews", TRIAL),)
    assert await mesh.traffic.get("reviews") == TRIAL


async def moved_but_not_recorded(mesh: TwinMesh) -> tuple[asyncio.Event, asyncio.Task[Split]]:
    """Envoy has new weights, and the registry holds back their tag until the event is set."""
    recorded = mesh.registry.hold_tags = asyncio.Event()
    moving = asyncio.create_task(mesh.traffic.set("reviews", MORE))
    async with asyncio.timeout(60):
        while mesh.envoy.topology.splits != (("reviews", MORE),):
            await asyncio.sleep(0)
    return recorded, moving


async def test_weights_alone_reach_envoy_before_they_are_recorded() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    recorded, moving = await moved_but_not_recorded(mesh)
    # What the registry says meanwhile does not count.
    await mesh.upkeep.look()
    assert mesh.envoy.topology.splits == (("reviews", MORE),)
    assert not moving.done()
    recorded.set()
    assert await moving == MORE
    await mesh.upkeep.look()
    assert mesh.envoy.topology.splits == (("reviews", MORE),)


async def test_another_challenger_by_now_is_prepared_before_it_gets_weights() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    mesh.registry.aliases["Challenger"] = "3"
    await mesh.traffic.set("reviews", MORE)
    assert [replica.challengers for replica in mesh.replicas] == [{"reviews": "3"}] * 2
    assert mesh.envoy.topology.splits == (("reviews", MORE),)


async def test_another_challenger_that_cannot_be_prepared_leaves_the_weights() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    mesh.registry.aliases["Challenger"] = "3"
    mesh.replicas[1].fail_at = "load"
    with pytest.raises(Aborted, match="r2 failed at load"):
        await mesh.traffic.set("reviews", MORE)
    assert mesh.envoy.topology.splits == (("reviews", TRIAL),)


async def test_weights_that_cannot_be_recorded_are_put_back() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    recorded, moving = await moved_but_not_recorded(mesh)
    mesh.registry.up = False
    recorded.set()
    with pytest.raises(Unavailable):
        await moving
    assert mesh.envoy.topology.splits == (("reviews", TRIAL),)


async def test_the_end_of_a_split_frees_the_challenger() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    await mesh.traffic.set("reviews", ALL_TO_THE_CHAMPION)
    assert mesh.envoy.topology.splits == ()
    assert [replica.challengers for replica in mesh.replicas] == [{}, {}]


async def test_a_challenger_that_cannot_be_prepared_changes_nothing() -> None:
    mesh = on_trial()
    mesh.replicas[1].fail_at = "load"
    with pytest.raises(Aborted, match="r2 failed at load"):
        await mesh.traffic.set("reviews", TRIAL)
    await mesh.upkeep.look()
    assert mesh.envoy.topology.splits == ()
    assert TAG_TRAFFIC not in mesh.registry.model_tags


async def test_a_dead_challenger_gets_nothing_and_is_brought_back() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    for replica in mesh.replicas:
        replica.challengers.clear()
    await mesh.upkeep.look()
    assert await mesh.traffic.get("reviews") == ALL_TO_THE_CHAMPION
    await mesh.settle()
    assert mesh.envoy.topology.splits == (("reviews", TRIAL),)


async def test_a_challenger_that_became_the_champion_is_on_trial_no_more() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    mesh.registry.aliases["Champion"] = "2"
    await mesh.coordinator.reload("reviews", "", "b")
    assert mesh.envoy.topology.splits == ()
    await mesh.settle()
    assert [replica.challengers for replica in mesh.replicas] == [{}, {}]
    assert mesh.envoy.replicas == ["r1", "r2"]


async def test_without_a_challenger_or_a_champion_there_is_nothing_to_split() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="1", Serving="1"), *two())
    with pytest.raises(FailedPrecondition, match="no Challenger"):
        await mesh.traffic.set("reviews", TRIAL)
    mesh = TwinMesh(TwinRegistry(Challenger="2"), *two())
    with pytest.raises(FailedPrecondition, match="no version of reviews is served"):
        await mesh.traffic.set("reviews", TRIAL)


@pytest.mark.parametrize("split", [Split(90, 20), Split(101, -1), Split(100, 0, 101)])
async def test_a_split_that_makes_no_sense_is_refused(split: Split) -> None:
    with pytest.raises(InvalidArgument):
        await on_trial().traffic.set("reviews", split)
