"""Champion and Serving never stay apart, unless somebody wants them to."""

import asyncio
from itertools import pairwise

import pytest

from control_plane.fleet.fleet_view import view_fleet
from control_plane.reload.pending_switches import PendingSwitches
from mesh.v1 import reload_pb2
from service_kit.errors import Unavailable
from service_kit.model_registry.records import RegisteredModel
from tests.real_parts.waiting import until
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica


def mesh(**aliases: str) -> TwinMesh:
    aliases = aliases or {"Champion": "1", "Serving": "1"}
    replicas = [TwinReplica(name, reviews=aliases.get("Serving", "1")) for name in ("r1", "r2")]
    return TwinMesh(TwinRegistry(**aliases), *replicas)


async def shown(twin: TwinMesh) -> reload_pb2.FleetModel:
    models = await twin.catalog.read()
    return view_fleet(models, await twin.fleet.members(), twin.switches.why).models[0]


async def test_a_promotion_whose_run_never_reloads_is_served() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    assert "version 2 was promoted and the fleet serves version 1" in (await shown(twin)).detail
    await twin.settle()
    assert twin.served == ["2", "2"]
    assert twin.registry.aliases["Serving"] == "2"
    assert (await shown(twin)).detail == ""


async def test_a_champion_that_was_moved_by_hand_is_not_followed() -> None:
    twin = mesh()
    twin.demotions.moved_by_hand = True
    twin.registry.promote("2", serve=True)
    await twin.settle()
    assert twin.served == ["1", "1"]
    assert "moved the alias by hand" in (await shown(twin)).detail
    twin.demotions.moved_by_hand = False


async def test_the_first_version_is_served_as_well() -> None:
    twin = TwinMesh(TwinRegistry(), TwinReplica("r1"))
    twin.registry.promote("1", serve=True)
    await twin.settle()
    assert twin.served == ["1"]


async def test_a_restarted_control_plane_makes_the_switch() -> None:
    twin = mesh()
    twin.replicas[0].fail_at = "load"
    twin.registry.promote("2", serve=True)
    await twin.settle()
    twin.replicas[0].fail_at = ""
    twin.start()
    await twin.settle()
    assert twin.served == ["2", "2"]


async def test_a_switch_that_fails_is_tried_again_later_and_the_fleet_says_why() -> None:
    twin = mesh()
    twin.replicas[0].fail_at = "load"
    twin.registry.promote("2", serve=True)
    await twin.settle()
    await twin.settle()
    assert twin.replicas[0].calls.count("prepare 2") == 1, "the second attempt waits"
    assert twin.served == ["1", "1"]
    state = await shown(twin)
    assert not state.pinned
    assert "the latest attempt failed: replica r1 failed at load" in state.detail


async def test_pauses_between_attempts_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control_plane.reload.pending_switches.FIRST_PAUSE_S", 0.01)
    registry, loop = TwinRegistry(Serving="1"), asyncio.get_running_loop()
    registry.promote("2", serve=True)
    tried: list[float] = []

    async def fail(model: str) -> None:
        tried.append(loop.time())
        raise Unavailable("no replica answers")

    switches = PendingSwitches(fail, grace_s=0)
    model = await registry.find_model("reviews")
    assert model
    while len(tried) < 4:
        switches.look_at(model)
        await asyncio.sleep(0.001)
    pauses = [after - before for before, after in pairwise(tried)]
    assert [pause >= at_least for pause, at_least in zip(pauses, (0.02, 0.04, 0.08), strict=True)]
    assert pauses[2] > pauses[0]
    assert switches.why("reviews") == "no replica answers"


async def test_the_run_itself_has_a_while_to_switch() -> None:
    registry, closed = TwinRegistry(Serving="1"), list[str]()
    registry.promote("2", serve=True)

    async def close_gap(model: str) -> None:
        closed.append(model)

    switches = PendingSwitches(close_gap, grace_s=60)
    model = await registry.find_model("reviews")
    assert model
    switches.look_at(model)
    assert switches.running == []
    assert closed == []


async def test_a_version_that_was_promoted_long_ago_is_switched_at_once() -> None:
    registry, closed = TwinRegistry(Serving="1"), list[str]()
    promoted = '[{"version": "2", "serve": true, "at": "2026-01-01T00:00:00+00:00"}]'
    aliases = {"Champion": "2", "Serving": "1"}
    model = RegisteredModel(registry.model, aliases, {"mesh.promoted": promoted})

    async def close_gap(model: str) -> None:
        closed.append(model)

    switches = PendingSwitches(close_gap, grace_s=60)
    switches.look_at(model)
    await asyncio.gather(*switches.running)
    assert closed == ["reviews"]


async def test_a_training_that_was_to_change_no_traffic_changes_none() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=False)
    await twin.settle()
    assert twin.served == ["1", "1"]
    state = await shown(twin)
    assert state.pinned
    assert "was to change no traffic" in state.detail


async def test_a_version_that_somebody_reloaded_stays() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.settle()
    await twin.coordinator.reload("reviews", "1", "back")
    twin.start()
    await twin.settle()
    assert twin.served == ["1", "1"]
    state = await shown(twin)
    assert state.pinned
    assert "chosen by a Reload with a version" in state.detail


async def test_a_reload_of_an_old_version_overrides_a_switch_that_is_still_to_come() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.coordinator.reload("reviews", "1", "stay")
    await twin.settle()
    assert twin.served == ["1", "1"]
    assert (await shown(twin)).pinned


async def test_a_reload_without_a_version_ends_the_pin() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.coordinator.reload("reviews", "1", "stay")
    await twin.coordinator.reload("reviews", "", "go on")
    await twin.settle()
    assert twin.served == ["2", "2"]
    assert (await shown(twin)).detail == ""


async def test_the_next_promotion_that_is_to_be_served_ends_the_pin() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.coordinator.reload("reviews", "1", "stay")
    twin.registry.promote("3", serve=True)
    await twin.settle()
    assert twin.served == ["3", "3"]


async def test_a_promotion_that_crashed_before_its_alias_leaves_the_one_before_promised() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    twin.registry.promote("3", serve=True)
    twin.registry.aliases["Champion"] = "2"
    await twin.settle()
    assert twin.served == ["2", "2"]


async def test_a_reload_that_failed_pins_nothing() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.settle()
    twin.replicas[0].fail_at = "load"
    with pytest.raises(Exception, match="failed at load"):
        await twin.coordinator.reload("reviews", "3", "a")
    assert (await shown(twin)).detail == ""


async def test_an_alias_that_was_moved_by_hand_is_shown_and_moves_nothing() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.settle()
    twin.registry.aliases["Champion"] = "3"
    await twin.settle()
    assert twin.served == ["2", "2"]
    state = await shown(twin)
    assert not state.pinned
    assert "by no promotion of the mesh" in state.detail


async def test_after_a_rollback_nothing_is_pending() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    twin.registry.aliases["Previous"] = "1"
    await twin.settle()
    await twin.coordinator.rollback("reviews", "a")
    twin.start()
    await twin.settle()
    assert twin.served == ["1", "1"]
    assert (await shown(twin)).detail == ""


async def test_a_rollback_that_crashed_after_the_switch_is_completed_not_undone() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    twin.registry.aliases["Previous"] = "1"
    await twin.settle()
    twin.demotions.hold = asyncio.Event()
    call = asyncio.create_task(twin.coordinator.rollback("reviews", "a"))
    await until(lambda: twin.registry.aliases["Serving"] == "1")
    # The process dies here: it neither goes on nor undoes anything.
    twin.demotions.hold = None
    dead = twin.coordinator
    twin.start()
    for replica in twin.replicas:
        replica.restart({"reviews": "1"})
    await twin.settle()
    assert twin.registry.aliases == {"Champion": "1", "Previous": "2", "Serving": "1"}
    assert twin.served == ["1", "1"]
    assert (await twin.coordinator.rollback("reviews", "a")).to_version == "1"
    assert twin.demotions.count == 1
    twin.registry.refused_aliases = 10_000
    await dead.close()
    await asyncio.gather(call, return_exceptions=True)


async def test_a_champion_that_was_deleted_in_mlflow_is_said_to_be() -> None:
    twin = mesh()
    twin.registry.promote("2", serve=True)
    await twin.settle()
    del twin.registry.aliases["Champion"], twin.registry.aliases["Serving"], twin.registry.tags["2"]
    assert "reviews has no Champion any more, which was version 2" in (await shown(twin)).detail
    with pytest.raises(Exception, match="was deleted in MLflow"):
        await twin.coordinator.reload("reviews", "", "a")
    await twin.settle()
    assert twin.served == ["2", "2"], "replicas go on answering"
