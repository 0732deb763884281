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
