"""A replica that serves the version of an earlier model of the same name does not answer for it."""

from control_plane.changes.model_locks import ModelLocks
from control_plane.traffic.answering_replicas import AnsweringReplicas
from control_plane.traffic.demands import demands_of
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica


async def test_a_number_alone_does_not_make_a_replica_answer() -> None:
    registry = TwinRegistry()
    registry.replace(2, {"1": "new"}, Champion="1", Serving="1")
    new, old = TwinReplica("r1", reviews="1@new"), TwinReplica("r2", reviews="1@old")
    mesh = TwinMesh(registry, new, old)
    demands = demands_of(await mesh.catalog.read(), {})
    answering = AnsweringReplicas(ModelLocks())
    members = await mesh.fleet.members()
    assert answering.look(demands, members, ()) == {"reviews": frozenset({new.address})}
    new.kill()
    members = [member for member in await mesh.fleet.members() if member.state]
    assert answering.look(demands, members, ()) == {}, "an old answer is better than none"
