"""Reload: all or none before the commit record, forward only after it."""

import asyncio

import pytest

from service_kit.errors import (
    Aborted,
    AlreadyExists,
    FailedPrecondition,
    InvalidArgument,
    MeshError,
    NotFound,
    Unavailable,
)
from service_kit.model_registry.records import TAG_RELOADED_AT
from tests.unit.control_plane.twins import KILLED, TwinMesh, TwinRegistry, TwinReplica


def mesh_of_two(**aliases: str) -> TwinMesh:
    aliases = aliases or {"Champion": "2", "Serving": "1"}
    served = {"reviews": aliases["Serving"]} if "Serving" in aliases else {}
    replicas = [TwinReplica(name, **served) for name in ("r1", "r2")]
    return TwinMesh(TwinRegistry(**aliases), *replicas)


async def test_every_replica_is_brought_to_the_champion() -> None:
    mesh = mesh_of_two()
    result = await mesh.coordinator.reload("reviews", "", "a")
    assert (result.from_version, result.to_version) == ("1", "2")
    assert [(r.replica, r.from_version, r.to_version) for r in result.replicas] == [
        ("r1", "1", "2"),
        ("r2", "1", "2"),
    ]
    assert result.replicas[0].prepare_ms == 12.0
    assert result.replicas[0].drained_requests == 3
    assert mesh.served == ["2", "2"]
    assert mesh.registry.aliases["Serving"] == "2"
    assert TAG_RELOADED_AT in mesh.registry.tags["2"]


async def test_the_first_version_is_loaded_into_an_empty_fleet() -> None:
    mesh = mesh_of_two(Champion="1")
    result = await mesh.coordinator.reload("reviews", "", "a")
    assert (result.from_version, result.to_version) == ("", "1")
    assert mesh.served == ["1", "1"]


async def test_a_version_can_be_named() -> None:
    mesh = mesh_of_two()
    assert (await mesh.coordinator.reload("reviews", "3", "a")).to_version == "3"
    assert mesh.served == ["3", "3"]


async def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(NotFound, match="'films'"):
        await mesh_of_two().coordinator.reload("films", "", "a")


async def test_an_unknown_version_is_not_found() -> None:
    with pytest.raises(NotFound, match="reviews has no version 9"):
        await mesh_of_two().coordinator.reload("reviews", "9", "a")


async def test_a_version_is_a_whole_number() -> None:
    with pytest.raises(InvalidArgument, match="version"):
        await mesh_of_two().coordinator.reload("reviews", "latest", "a")


async def test_without_a_promoted_version_the_error_says_to_train_one() -> None:
    mesh = TwinMesh(TwinRegistry(), TwinReplica("r1"))
    with pytest.raises(FailedPrecondition) as error:
        await mesh.coordinator.reload("reviews", "", "a")
    assert str(error.value) == "no version of reviews is promoted yet: train one first"


async def test_without_a_replica_nothing_is_recorded() -> None:
    mesh = mesh_of_two()
    for replica in mesh.replicas:
        replica.kill()
    with pytest.raises(Unavailable):
        await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.registry.aliases["Serving"] == "1"


@pytest.mark.parametrize("step", ["download", "load", "warm-up", "golden set"])
async def test_a_failed_step_leaves_the_whole_fleet_on_the_old_version(step: str) -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].fail_at = step
    with pytest.raises(Aborted, match=f"replica r2 failed at {step}") as error:
        await mesh.coordinator.reload("reviews", "", "a")
    assert error.value.reason == "PREPARE_FAILED"
    assert error.value.metadata == {"replica": "r2", "step": step}
    assert mesh.served == ["1", "1"]
    assert mesh.registry.aliases["Serving"] == "1"
    assert not any(replica.ready for replica in mesh.replicas)


async def test_a_replica_killed_while_it_prepares_aborts_the_change() -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].fail_at = KILLED
    with pytest.raises(Aborted, match="replica r2 failed at unreachable"):
        await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.served == ["1", "1"]
    assert mesh.registry.aliases["Serving"] == "1"
    assert not mesh.replicas[0].ready


async def test_a_record_that_cannot_be_written_aborts_everywhere() -> None:
    mesh = mesh_of_two()
    mesh.registry.refused_aliases = 10_000
    with pytest.raises(Unavailable, match="could not be recorded"):
        await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.served == ["1", "1"]
    assert not any(replica.ready for replica in mesh.replicas)


async def test_a_record_that_cannot_be_written_at_first_is_tried_again() -> None:
    mesh = mesh_of_two()
    mesh.registry.refused_aliases = 2
    assert (await mesh.coordinator.reload("reviews", "", "a")).to_version == "2"
    assert mesh.registry.refused_aliases == 0
    assert mesh.registry.aliases["Serving"] == "2"
    assert mesh.served == ["2", "2"]


async def test_a_replica_that_is_down_does_not_hold_up_the_rest() -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].kill()
    result = await mesh.coordinator.reload("reviews", "", "a")
    assert [(r.replica, r.to_version) for r in result.replicas] == [("r1", "2"), ("r2:1", "")]
    assert mesh.replicas[0].serving["reviews"] == "2"


async def test_an_activation_that_fails_at_first_is_tried_again() -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].fail_activations = 2
    result = await mesh.coordinator.reload("reviews", "", "a")
    assert [r.to_version for r in result.replicas] == ["2", "2"]
    assert mesh.served == ["2", "2"]


async def test_after_the_record_a_killed_replica_is_left_behind() -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].killed_by_activate = True
    result = await mesh.coordinator.reload("reviews", "", "a")
    assert [(r.replica, r.to_version) for r in result.replicas] == [("r1", "2"), ("r2", "1")]
    assert mesh.registry.aliases["Serving"] == "2"
    mesh.replicas[1].restart({"reviews": "1"})
    await mesh.settle()
    assert mesh.served == ["2", "2"]


async def test_a_change_that_no_replica_has_followed_yet_is_no_success() -> None:
    mesh = mesh_of_two()
    for replica in mesh.replicas:
        replica.killed_by_activate = True
    with pytest.raises(Unavailable, match="recorded, but no replica has activated it"):
        await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.registry.aliases["Serving"] == "2"
    for replica in mesh.replicas:
        replica.restart({"reviews": "1"})
    await mesh.settle()
    assert mesh.served == ["2", "2"]


async def test_an_aborted_change_names_the_step_that_was_last_seen() -> None:
    mesh = mesh_of_two()
    gate = mesh.replicas[1].gate = asyncio.Event()
    mesh.replicas[1].step, mesh.replicas[1].fail_at = "load", KILLED
    call = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[1].preparing.wait()
    await mesh.fleet.members()
    gate.set()
    with pytest.raises(Aborted, match="replica r2 failed at load"):
        await call


async def test_the_version_already_served_everywhere_answers_at_once() -> None:
    mesh = mesh_of_two(Champion="1", Serving="1")
    result = await mesh.coordinator.reload("reviews", "", "a")
    assert (result.from_version, result.to_version) == ("1", "1")
    assert all(not replica.calls for replica in mesh.replicas)


async def test_the_same_request_gives_the_same_answer_and_does_nothing_more() -> None:
    mesh = mesh_of_two()
    first = await mesh.coordinator.reload("reviews", "", "a")
    mesh.registry.aliases["Champion"] = "3"
    assert await mesh.coordinator.reload("reviews", "", "a") == first
    assert mesh.served == ["2", "2"]


async def test_a_request_that_failed_may_try_again() -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].fail_at = "load"
    with pytest.raises(MeshError):
        await mesh.coordinator.reload("reviews", "", "a")
    mesh.replicas[1].fail_at = ""
    assert (await mesh.coordinator.reload("reviews", "", "a")).to_version == "2"


async def test_a_request_id_belongs_to_one_request() -> None:
    mesh = mesh_of_two()
    await mesh.coordinator.reload("reviews", "", "a")
    with pytest.raises(AlreadyExists):
        await mesh.coordinator.reload("reviews", "3", "a")


async def test_the_same_request_joins_the_one_that_runs() -> None:
    mesh = mesh_of_two()
    gate = mesh.replicas[0].gate = asyncio.Event()
    first = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[0].preparing.wait()
    second = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    gate.set()
    assert await first == await second
    assert mesh.replicas[0].calls == ["prepare 2", "activate 2"]


async def test_changes_of_one_model_wait_their_turn() -> None:
    mesh = mesh_of_two()
    gate = mesh.replicas[0].gate = asyncio.Event()
    first = asyncio.create_task(mesh.coordinator.reload("reviews", "2", "a"))
    await mesh.replicas[0].preparing.wait()
    second = asyncio.create_task(mesh.coordinator.reload("reviews", "3", "b"))
    gate.set()
    assert (await first).to_version == "2"
    assert (await second).from_version == "2"
    assert mesh.served == ["3", "3"]


async def test_a_change_goes_on_when_its_caller_leaves() -> None:
    mesh = mesh_of_two()
    gate = mesh.replicas[0].gate = asyncio.Event()
    call = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[0].preparing.wait()
    call.cancel()
    gate.set()
    assert (await mesh.coordinator.reload("reviews", "", "a")).to_version == "2"
    assert mesh.served == ["2", "2"]


async def test_stopping_before_the_record_undoes_the_change() -> None:
    mesh = mesh_of_two()
    mesh.replicas[0].gate = asyncio.Event()
    call = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[0].preparing.wait()
    await mesh.coordinator.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert mesh.served == ["1", "1"]
    assert not any(replica.ready for replica in mesh.replicas)


async def test_a_replica_that_envoy_goes_on_asking_for_its_old_version_is_told() -> None:
    mesh = mesh_of_two()
    mesh.replicas[1].fail_activations = 1000
    mesh.envoy.in_the_way = "no Envoy is connected to the control plane"
    with pytest.raises(
        Unavailable, match=r"version 2 of reviews serves, but r2 may go on .* Envoy"
    ):
        await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.registry.aliases["Serving"] == "2"


async def test_without_envoy_a_version_that_every_replica_serves_is_done() -> None:
    mesh = mesh_of_two()
    mesh.envoy.in_the_way = "no Envoy is connected to the control plane"
    assert (await mesh.coordinator.reload("reviews", "", "a")).to_version == "2"
