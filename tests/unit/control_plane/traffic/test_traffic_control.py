"""How a model's traffic is split between Champion and Challenger."""

import asyncio

import pytest

from control_plane.models.stored_split import TAG_TRAFFIC
from control_plane.topology import ALL_TO_THE_CHAMPION, Split
from service_kit.errors import (
    Aborted,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, two_replicas

TRIAL = Split(90, 10, 5)


MORE = Split(50, 50, 5)


def on_trial() -> TwinMesh:
    return TwinMesh(TwinRegistry(Champion="1", Serving="1", Challenger="2"), *two_replicas())


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
    # The registry still has the old weights, which do not count meanwhile.
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
    mesh = TwinMesh(TwinRegistry(Champion="1", Serving="1"), *two_replicas())
    with pytest.raises(FailedPrecondition, match="no Challenger"):
        await mesh.traffic.set("reviews", TRIAL)
    mesh = TwinMesh(TwinRegistry(Challenger="2"), *two_replicas())
    with pytest.raises(FailedPrecondition, match="no version of reviews is served"):
        await mesh.traffic.set("reviews", TRIAL)


@pytest.mark.parametrize("split", [Split(90, 20), Split(101, -1), Split(100, 0, 101)])
async def test_a_split_that_makes_no_sense_is_refused(split: Split) -> None:
    with pytest.raises(InvalidArgument):
        await on_trial().traffic.set("reviews", split)


async def test_weight_is_taken_away_although_no_replica_can_be_asked() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", MORE)
    for replica in mesh.replicas:
        replica.kill()
    mesh.now += 60
    less = Split(90, 10, 1)
    assert await mesh.traffic.set("reviews", less) == less
    assert mesh.envoy.split("reviews") == less
    assert await mesh.traffic.set("reviews", ALL_TO_THE_CHAMPION) == ALL_TO_THE_CHAMPION
    assert mesh.envoy.split("reviews") is None
    assert mesh.envoy.replicas == ["r1", "r2"]
    assert await mesh.traffic.get("reviews") == ALL_TO_THE_CHAMPION


async def test_weight_is_given_to_no_challenger_that_nobody_can_be_asked_about() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    for replica in mesh.replicas:
        replica.kill()
    mesh.now += 60
    with pytest.raises(Unavailable, match="no replica answers"):
        await mesh.traffic.set("reviews", MORE)
    await mesh.upkeep.look()
    assert mesh.envoy.topology.splits == (("reviews", TRIAL),)


async def test_weight_is_taken_away_although_a_replica_cannot_load_the_challenger() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", MORE)
    mesh.replicas[1].challengers.clear()
    mesh.replicas[1].fail_at = "load"
    assert await mesh.traffic.set("reviews", Split(95, 5)) == Split(95, 5)
    assert mesh.envoy.topology.splits == (("reviews", Split(95, 5)),)


async def test_a_split_of_a_challenger_that_nobody_serves_is_not_called_done() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", MORE)
    for replica in mesh.replicas:
        replica.challengers.clear()
    with pytest.raises(Unavailable, match="no replica that gets traffic serves the Challenger"):
        await mesh.traffic.set("reviews", TRIAL)
    assert mesh.envoy.split("reviews") is None
    # It comes into force when the replicas have the Challenger again.
    await mesh.settle()
    assert mesh.envoy.split("reviews") == TRIAL


async def test_a_split_that_envoy_has_not_taken_is_not_called_done() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    mesh.envoy.in_the_way = "no Envoy is connected to the control plane"
    with pytest.raises(
        Unavailable, match=r"100/0 is recorded for reviews, .* no Envoy is connected"
    ):
        await mesh.traffic.set("reviews", ALL_TO_THE_CHAMPION, "a")
    # An Envoy that asks for the Challenger all the same gets the Champion's answer.
    assert [replica.challengers for replica in mesh.replicas] == [{}, {}]
    mesh.envoy.in_the_way = ""
    assert await mesh.traffic.set("reviews", ALL_TO_THE_CHAMPION, "a") == ALL_TO_THE_CHAMPION


async def test_a_challenger_that_every_replica_has_withdrawn_gets_nothing() -> None:
    mesh = on_trial()
    await mesh.traffic.set("reviews", TRIAL)
    for replica in mesh.replicas:
        replica.withdrawn_challengers.add("reviews")
    await mesh.upkeep.look()
    assert mesh.envoy.topology.splits == ()
