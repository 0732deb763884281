"""The fleet, as callers of the contract see it."""

import pytest

from control_plane.fleet.fleet_view import FleetView, view_fleet
from service_kit.errors import Unavailable
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica


async def test_a_replica_is_eligible_when_it_serves_the_fleets_version() -> None:
    registry = TwinRegistry(Champion="2", Serving="2", Previous="1")
    replicas = [TwinReplica("r1", reviews="2"), TwinReplica("r2", reviews="1"), TwinReplica("r3")]
    replicas[2].kill()
    mesh = TwinMesh(registry, *replicas)
    fleet = view_fleet(*await FleetView(mesh.fleet, mesh.catalog).look())
    assert [(r.id, r.healthy, r.eligible) for r in fleet.replicas] == [
        ("r1", True, True),
        ("r2", True, False),
        ("r3:1", False, False),
    ]
    assert fleet.replicas[1].detail == "reviews: serves version 1, the fleet serves 2"
    assert "connection refused" in fleet.replicas[2].detail
    assert fleet.models[0].serving_version == "2"
    assert fleet.models[0].previous_version == "1"


async def test_the_fleet_shows_what_a_replica_does_not_answer_for_and_why() -> None:
    replicas = [TwinReplica("r1", reviews="1"), TwinReplica("r2", reviews="1")]
    mesh = TwinMesh(TwinRegistry(Serving="1"), *replicas)
    replicas[0].withdrawn["reviews"] = "20 batches failed"
    replicas[1].trouble = "the GPU is gone"
    first, second = view_fleet(*await FleetView(mesh.fleet, mesh.catalog).look()).replicas
    assert (first.healthy, first.eligible) == (True, False)
    assert first.detail == "reviews: does not answer (20 batches failed), the fleet serves 1"
    assert first.models[0].detail == "20 batches failed"
    assert (second.healthy, second.eligible) == (False, False)
    assert second.detail == "cannot compute: the GPU is gone"


async def test_a_replica_that_lacks_many_models_names_the_first_of_them() -> None:
    mesh = TwinMesh(TwinRegistry(), TwinReplica("r1"))
    (member,) = await mesh.fleet.members()
    detail = member.lacks({f"model_{number}": "1" for number in range(8)})
    assert detail.startswith("model_0: serves none, the fleet serves 1; model_1: serves none")
    assert detail.endswith("; and 3 more models")


async def test_a_replica_that_went_away_keeps_its_name() -> None:
    mesh = TwinMesh(TwinRegistry(), TwinReplica("r1"))
    await mesh.fleet.members()
    mesh.replicas[0].kill()
    assert [member.name for member in await mesh.fleet.members()] == ["r1"]


async def test_the_fleet_is_shown_while_the_registry_is_away() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), TwinReplica("r1", reviews="1"))
    view = FleetView(mesh.fleet, mesh.catalog)
    mesh.registry.up = False
    with pytest.raises(Unavailable):
        await view.look()
    mesh.registry.up = True
    await view.look()
    mesh.registry.up = False
    assert view_fleet(*await view.look()).replicas[0].eligible
