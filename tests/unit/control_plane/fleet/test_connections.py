"""Connections to the replicas, as their addresses come and go."""

import asyncio

import pytest

from control_plane.fleet.connections import ReplicaConnections
from control_plane.fleet.fleet import Fleet
from control_plane.fleet.grpc_replica import GrpcReplica
from control_plane.fleet.replica_client import ReplicaAway
from service_kit.model_registry.records import VersionRef
from tests.unit.control_plane.twins import TwinReplica


class ChangingDiscovery:
    """Addresses that a test changes."""

    def __init__(self, *addresses: str) -> None:
        self.current = addresses

    def change(self, *addresses: str) -> None:
        self.current = addresses

    async def addresses(self) -> tuple[str, ...]:
        return self.current

    async def close(self) -> None:
        return


class TwinConnector:
    """Connects to twins, and keeps all that it has made."""

    def __init__(self) -> None:
        self.made: list[ClosableReplica] = []

    def connect(self, address: str) -> "ClosableReplica":
        self.made.append(ClosableReplica(address.partition(":")[0], reviews="1"))
        return self.made[-1]


class ClosableReplica(TwinReplica):
    """A replica whose connection tells whether it was closed."""

    closed = False

    async def close(self) -> None:
        self.closed = True


async def test_the_fleet_follows_discovery() -> None:
    discovery, connections = ChangingDiscovery("r1:1"), TwinConnector()
    fleet = Fleet(ReplicaConnections(discovery, connections.connect))
    assert [member.name for member in await fleet.members()] == ["r1"]
    discovery.change("r1:1", "r2:1")
    assert [member.name for member in await fleet.members()] == ["r1", "r2"]
    discovery.change("r2:1")
    assert [member.name for member in await fleet.members()] == ["r2"]
    first, second = connections.made
    await asyncio.sleep(0)
    assert (first.closed, second.closed) == (True, False)
    await fleet.close()
    assert second.closed


async def test_an_address_that_comes_back_gets_a_new_connection() -> None:
    discovery, connections = ChangingDiscovery("r1:1"), TwinConnector()
    fleet = Fleet(ReplicaConnections(discovery, connections.connect))
    for addresses in (("r1:1",), (), ("r1:1",)):
        discovery.change(*addresses)
        assert len(await fleet.members()) == len(addresses)
    assert len(connections.made) == 2


async def test_a_replica_that_left_is_forgotten() -> None:
    discovery, connections = ChangingDiscovery("r1:1"), TwinConnector()
    fleet = Fleet(ReplicaConnections(discovery, connections.connect))
    await fleet.members()
    connections.made[0].step = "load"
    await fleet.members()
    assert fleet.last_step("r1:1", "reviews", VersionRef("2")) == "load"
    discovery.change()
    await fleet.members()
    assert fleet.last_step("r1:1", "reviews", VersionRef("2")) == ""


async def test_a_closed_connection_waits_for_its_calls_and_takes_no_more() -> None:
    # Port 9 of loopback: nothing listens there.
    replica = GrpcReplica("127.0.0.1:9")
    call = asyncio.create_task(replica.state(timeout_s=0.2))
    await asyncio.sleep(0)
    await replica.close()
    assert call.done()
    with pytest.raises(ReplicaAway):
        await call
    with pytest.raises(ReplicaAway, match="not in the fleet any more"):
        await replica.state(timeout_s=1)
