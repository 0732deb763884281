"""Splits, mirrors, and replicas that get traffic: a real Envoy that follows the control plane."""

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from control_plane.service import ControlPlane
from mesh.v1 import predict_pb2, predict_pb2_grpc
from service_kit.server import GrpcServer
from tests.real_parts.steady_load import under_load
from tests.twins.steered_mesh import SteeredMesh, steered_mesh

CALLS = 1000
CALLS_AT_ONCE = 64
# Six standard deviations of 1,000 calls at 20 %.
MARGIN = 0.076


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as running:
        yield running


async def versions_by_grpc(mesh: SteeredMesh, model: str, **metadata: str) -> Counter[str]:
    request = predict_pb2.PredictRequest(model=model, texts=["a"])
    sent = tuple((name.replace("_", "-"), value) for name, value in metadata.items())
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        # The mesh would refuse more calls at once.
        room = asyncio.Semaphore(CALLS_AT_ONCE)

        async def ask() -> str:
            async with room:
                answer = await stub.Predict(request, timeout=10, metadata=sent)
            return str(answer.model.version)

        return Counter(await asyncio.gather(*(ask() for _ in range(CALLS))))


async def versions_by_json(mesh: SteeredMesh, model: str) -> Counter[str]:
    found: Counter[str] = Counter()

    async def client() -> None:
        for _ in range(CALLS // 10):
            answer = await mesh.post(f"/models/{model}:predict", {"texts": ["a"]})
            found[answer.json()["model"]["version"]] += 1

    await asyncio.gather(*(client() for _ in range(10)))
    return found


async def test_a_split_holds_for_grpc_and_json_alike(mesh: SteeredMesh) -> None:
    champion = await mesh.served("halves")
    other = await mesh.served("whole")
    challenger = await mesh.challenged("halves")
    await mesh.split("halves", 80, 20)
    for found in (await versions_by_grpc(mesh, "halves"), await versions_by_json(mesh, "halves")):
        assert found[champion] + found[challenger] == CALLS
        assert abs(found[challenger] / CALLS - 0.2) < MARGIN
    assert await versions_by_grpc(mesh, "whole") == {other: CALLS}
    await mesh.split("halves", 100, 0)
    assert await versions_by_grpc(mesh, "halves") == {champion: CALLS}
    assert [replica.challengers for replica in mesh.replicas] == [{}, {}]


async def test_a_split_that_comes_and_goes_fails_nothing(mesh: SteeredMesh) -> None:
    champion = await mesh.served("changing")
    challenger = await mesh.challenged("changing")
    async with under_load(mesh.envoy.address, "changing") as load:
        for _ in range(5):
            await mesh.split("changing", 50, 50)
            await load.more(50)
            await mesh.split("changing", 100, 0)
            await load.more(50)
    assert load.failures == []
    assert set(load.versions) == {champion, challenger}


async def test_equal_keys_get_equal_versions(mesh: SteeredMesh) -> None:
    await mesh.served("sticky")
    await mesh.challenged("sticky")
    await mesh.split("sticky", 50, 50)
    chosen = set()
    for key in range(16):
        found = await versions_by_grpc(mesh, "sticky", x_mesh_key=f"customer-{key}")
        assert len(found) == 1
        chosen |= set(found)
    assert len(chosen) == 2


async def test_a_client_cannot_choose_the_role_itself(mesh: SteeredMesh) -> None:
    champion = await mesh.served("fixed")
    await mesh.challenged("fixed")
    await mesh.split("fixed", 100, 0, mirror=1)
    found = await versions_by_grpc(mesh, "fixed", x_mesh_role="challenger", x_mesh_mirror="1")
    assert found == {champion: CALLS}


async def test_a_mirror_asks_the_challenger_and_answers_from_the_champion(
    mesh: SteeredMesh,
) -> None:
    champion = await mesh.served("mirrored")
    challenger = await mesh.challenged("mirrored")
    await mesh.split("mirrored", 100, 0, mirror=50)
    assert await versions_by_grpc(mesh, "mirrored") == {champion: CALLS}
    in_flight = "cluster.challenger.upstream_rq_active"
    async with asyncio.timeout(60):
        while (await mesh.envoy.stats(f"^{in_flight}$"))[in_flight]:
            await asyncio.sleep(0.02)
    copies = sum((replica.mirrored for replica in mesh.replicas), Counter[str]())
    assert set(copies) == {challenger}
    assert CALLS * 0.4 < copies[challenger] < CALLS * 0.6


async def test_envoy_serves_without_the_control_plane_and_finds_it_again(mesh: SteeredMesh) -> None:
    champion = await mesh.served("steady")
    challenger = await mesh.challenged("steady")
    await mesh.split("steady", 50, 50)
    await mesh.control.__aexit__()
    assert set(await versions_by_grpc(mesh, "steady")) == {champion, challenger}
    mesh.control = GrpcServer(ControlPlane(mesh.settings), mesh.settings)
    await mesh.control.__aenter__()
    async with asyncio.timeout(60):
        while True:
            # Envoy follows the control plane again, and sends it calls.
            stats = await mesh.envoy.stats(
                "control_plane.connected_state|cluster.control-plane.membership_healthy"
            )
            if len(stats) == 2 and set(stats.values()) == {1}:
                break
            await asyncio.sleep(0.02)
    await mesh.split("steady", 0, 100)
    assert await versions_by_grpc(mesh, "steady") == {challenger: CALLS}
    stats = await mesh.envoy.stats("update_rejected")
    assert stats["cluster_manager.cds.update_rejected"] == 0
    assert sum(stats.values()) == 0


async def test_the_access_log_names_who_answered_over_grpc_and_json(mesh: SteeredMesh) -> None:
    champion = await mesh.served("logged")
    challenger = await mesh.challenged("logged")
    await mesh.split("logged", 50, 50)
    # A client cannot forge the log's fields about the answer.
    forged = {"x-mesh-version": "99", "x-mesh-alias": "Forged", "x-mesh-replica": "forged"}
    request = predict_pb2.PredictRequest(model="logged", texts=["a"])
    answered_by: dict[str, tuple[str, str, str]] = {}
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        for number in range(40):
            headers = {**forged, "x-request-id": str(uuid.uuid4())}
            if number % 2:
                answer = await stub.Predict(request, timeout=10, metadata=tuple(headers.items()))
                model = {"version": answer.model.version, "alias": answer.model.alias}
                replica = answer.replica
            else:
                path = "/models/logged:predict"
                body = (await mesh.http.post(path, json={"texts": ["a"]}, headers=headers)).json()
                model, replica = body["model"], body["replica"]
            answered_by[headers["x-request-id"]] = model["version"], model["alias"], replica
    logged = await mesh.envoy.logged(answered_by)
    for request_id, line in logged.items():
        assert line["model"] == "logged"
        assert (line["version"], line["alias"], line["replica"]) == answered_by[request_id]
    for protocol in ("HTTP/1.1", "HTTP/2"):
        named = {
            (line["version"], line["alias"])
            for line in logged.values()
            if line["protocol"] == protocol
        }
        assert named == {(champion, "Champion"), (challenger, "Challenger")}
