"""Rollback: the fleet and the alias go back together, or neither does."""

import pytest

from service_kit.errors import Aborted, FailedPrecondition, Unavailable
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica


def mesh_with_a_previous_champion() -> TwinMesh:
    registry = TwinRegistry(Champion="2", Previous="1", Serving="2")
    return TwinMesh(registry, TwinReplica("r1", reviews="2"), TwinReplica("r2", reviews="2"))


async def test_the_previous_champion_is_champion_again_and_served() -> None:
    mesh = mesh_with_a_previous_champion()
    result = await mesh.coordinator.rollback("reviews", "a")
    assert (result.from_version, result.to_version) == ("2", "1")
    assert mesh.served == ["1", "1"]
    assert mesh.registry.aliases == {"Champion": "1", "Previous": "2", "Serving": "1"}


async def test_a_failed_prepare_leaves_the_champion() -> None:
    mesh = mesh_with_a_previous_champion()
    mesh.replicas[0].fail_at = "load"
    with pytest.raises(Aborted, match="r1 failed at load"):
        await mesh.coordinator.rollback("reviews", "a")
    assert mesh.registry.aliases == {"Champion": "2", "Previous": "1", "Serving": "2"}
    assert mesh.served == ["2", "2"]


async def test_a_failed_demotion_leaves_the_fleet() -> None:
    mesh = mesh_with_a_previous_champion()
    mesh.demotions.failure = Unavailable("PostgreSQL is away")
    with pytest.raises(Unavailable):
        await mesh.coordinator.rollback("reviews", "a")
    assert mesh.registry.aliases == {"Champion": "2", "Previous": "1", "Serving": "2"}
    assert mesh.served == ["2", "2"]
    assert not any(replica.ready for replica in mesh.replicas)


async def test_without_a_previous_champion_there_is_no_rollback() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="1", Serving="1"), TwinReplica("r1", reviews="1"))
    with pytest.raises(FailedPrecondition, match="no previous Champion"):
        await mesh.coordinator.rollback("reviews", "a")


async def test_the_same_request_after_a_restart_does_not_roll_back_twice() -> None:
    mesh = mesh_with_a_previous_champion()
    await mesh.coordinator.rollback("reviews", "a")
    mesh.start()
    assert (await mesh.coordinator.rollback("reviews", "a")).to_version == "1"
    assert mesh.demotions.count == 1
    assert mesh.served == ["1", "1"]


async def test_the_same_request_after_a_restart_does_not_roll_back_twice_without_its_answer() -> (
    None
):
    mesh = mesh_with_a_previous_champion()
    await mesh.coordinator.rollback("reviews", "a")
    mesh.answers.kept.clear()
    mesh.start()
    assert (await mesh.coordinator.rollback("reviews", "a")).to_version == "1"
    assert mesh.demotions.count == 1
    assert mesh.served == ["1", "1"]


async def test_a_rollback_that_lost_its_demotion_is_completed_by_the_same_request() -> None:
    mesh = mesh_with_a_previous_champion()
    mesh.demotions.failure = Unavailable("PostgreSQL is away")
    with pytest.raises(Unavailable):
        await mesh.coordinator.rollback("reviews", "a")
    mesh.demotions.failure = None
    await mesh.coordinator.rollback("reviews", "a")
    assert mesh.registry.aliases == {"Champion": "1", "Previous": "2", "Serving": "1"}


async def test_a_repeated_rollback_never_demotes_a_newer_champion() -> None:
    mesh = mesh_with_a_previous_champion()
    await mesh.coordinator.rollback("reviews", "a")
    mesh.registry.aliases["Champion"] = "3"
    mesh.answers.kept.clear()
    mesh.start()
    with pytest.raises(Aborted, match="version 3"):
        await mesh.coordinator.rollback("reviews", "a")
    assert mesh.served == ["1", "1"]
