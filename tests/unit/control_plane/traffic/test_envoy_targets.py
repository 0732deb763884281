"""Which replicas get traffic."""

import asyncio
from dataclasses import replace

from control_plane.topology import Address
from control_plane.traffic.envoy_targets import CATCH_UP_S, GRACE_S, PATIENCE_S
from tests.unit.control_plane.twin_envoy import TOPOLOGY
from tests.unit.control_plane.twins import TwinMesh, TwinRegistry, TwinReplica, two_replicas


async def test_a_replica_with_an_old_version_gets_none_of_that_models_calls() -> None:
    mesh = TwinMesh(
        TwinRegistry(Serving="2"), TwinReplica("r1", reviews="2"), TwinReplica("r2", reviews="1")
    )
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]
    assert mesh.envoy.answering("reviews") == ["r1"]
    assert mesh.envoy.answering("any other model") == ["r1", "r2"]
    await mesh.settle()
    assert mesh.envoy.topology.partly_served == ()


async def test_a_model_that_is_withdrawn_keeps_its_calls_away_from_that_replica_alone() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two_replicas())
    for replica in mesh.replicas:
        replica.unary_port, replica.http_port = 7, 8
    mesh.replicas[0].withdrawn["reviews"] = "20 batches failed"
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]
    ((model, addresses),) = mesh.envoy.topology.partly_served
    assert (model, sorted(map(str, addresses))) == ("reviews", ["r2:1", "r2:7", "r2:8"])
    mesh.replicas[0].withdrawn.clear()
    await mesh.upkeep.look()
    assert mesh.envoy.topology.partly_served == ()


async def test_a_model_that_every_replica_has_withdrawn_is_answered_by_none() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two_replicas())
    for replica in mesh.replicas:
        replica.withdrawn["reviews"] = "20 batches failed"
    await mesh.upkeep.look()
    assert mesh.envoy.topology.partly_served == (("reviews", frozenset()),)


async def test_a_model_that_is_withdrawn_while_it_changes_loses_that_replica_at_once() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="2", Serving="1"), *two_replicas())
    await mesh.upkeep.look()
    mesh.replicas[0].gate = asyncio.Event()
    change = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[0].preparing.wait()
    mesh.replicas[1].withdrawn["reviews"] = "20 batches failed"
    await mesh.upkeep.look()
    assert mesh.envoy.answering("reviews") == ["r1"]
    mesh.replicas[1].withdrawn.clear()
    mesh.replicas[0].gate.set()
    await change
    assert mesh.envoy.topology.partly_served == ()


async def test_a_replica_that_cannot_compute_gets_nothing() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two_replicas())
    mesh.replicas[0].trouble = "the GPU is gone"
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r2"]


async def test_other_ports_follow_the_grpc_address_and_some_replicas_lack_them() -> None:
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
    # While its gRPC address keeps its traffic, so does its HTTP address.
    assert mesh.envoy.http_listeners == ["r1:11", "r2:12"]
    mesh.now += GRACE_S
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r2", "r3"]
    assert mesh.envoy.http_listeners == ["r2:12"]
    assert mesh.envoy.unary == ["r2:13"]


async def test_a_version_that_no_replica_serves_takes_no_replica_out() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="3"), *two_replicas("1"))
    for replica in mesh.replicas:
        replica.fail_at = "load"
    await mesh.settle()
    assert mesh.envoy.replicas == ["r1", "r2"]
    assert mesh.envoy.answering("reviews") == ["r1", "r2"]


async def test_a_replica_that_could_not_activate_gets_no_calls_once_reload_answers() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="2", Serving="1"), *two_replicas())
    await mesh.upkeep.look()
    mesh.replicas[1].fail_activations = 1000
    await mesh.coordinator.reload("reviews", "", "a")
    assert mesh.envoy.answering("reviews") == ["r1"]


async def test_a_change_takes_no_replica_out_while_it_runs() -> None:
    mesh = TwinMesh(TwinRegistry(Champion="2", Serving="1"), *two_replicas())
    await mesh.upkeep.look()
    mesh.replicas[0].gate = asyncio.Event()
    change = asyncio.create_task(mesh.coordinator.reload("reviews", "", "a"))
    await mesh.replicas[0].preparing.wait()
    assert mesh.envoy.topology.preparing
    # The version is recorded, and no replica has activated it yet.
    mesh.registry.aliases["Serving"] = "2"
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


async def test_a_replica_that_does_not_answer_keeps_its_traffic_for_a_moment() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two_replicas())
    await mesh.upkeep.look()
    mesh.replicas[0].kill()
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]
    mesh.now += 60
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r2"]


async def test_a_replica_that_is_silent_for_a_moment_keeps_what_it_served() -> None:
    mesh = TwinMesh(
        TwinRegistry(Serving="2"), TwinReplica("r1", reviews="2"), TwinReplica("r2", reviews="1")
    )
    mesh.replicas[1].fail_at = "load"
    await mesh.settle()
    mesh.replicas[0].kill()
    await mesh.upkeep.look()
    assert mesh.envoy.answering("reviews") == ["r1"]


async def test_a_control_plane_that_reaches_no_replica_leaves_the_endpoints() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two_replicas())
    await mesh.upkeep.look()
    for replica in mesh.replicas:
        replica.kill()
    mesh.now += 60
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]


async def test_after_a_restart_envoy_finds_out_itself_which_silent_replicas_work() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"), *two_replicas())
    for replica in mesh.replicas:
        replica.kill()
    mesh.start()
    await mesh.upkeep.look()
    # Nothing is sent, so a running Envoy goes on with what it has.
    assert mesh.envoy.replicas == []
    mesh.now += PATIENCE_S
    await mesh.upkeep.look()
    assert mesh.envoy.replicas == ["r1", "r2"]


async def test_a_mesh_without_replicas_is_published_at_once() -> None:
    mesh = TwinMesh(TwinRegistry(Serving="1"))
    mesh.envoy.topology = two_addresses = replace(TOPOLOGY, replicas=(Address("r1", 1),))
    await mesh.upkeep.look()
    assert mesh.envoy.topology != two_addresses
    assert mesh.envoy.replicas == []
