"""Reload and Rollback over JSON: real Envoy, MLflow and PostgreSQL, the control plane whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from control_plane.service import ControlPlane
from control_plane.settings import ControlPlaneSettings
from control_plane.topology import Address, MeshTopology
from service_kit.promotion import Promotions
from service_kit.registry import Registry
from service_kit.server import GrpcServer
from tests.envoy import running_envoy
from tests.postgres import free_port
from tests.toy_replica import SteeredReplica, replica_server


@dataclass
class Mesh:
    http: httpx.AsyncClient
    replicas: list[SteeredReplica]
    servers: list[GrpcServer]
    registry: Registry
    promotions: Promotions
    mlflow_url: str

    async def new_version(self, model: str) -> str:
        """Register a version; return its number."""
        await self.registry.ensure_model(model)
        async with httpx.AsyncClient(base_url=f"{self.mlflow_url}/api/2.0/mlflow") as http:
            body = {"name": model, "source": "s3://nowhere/model"}
            answer = await http.post("/model-versions/create", json=body)
        return str(answer.json()["model_version"]["version"])

    async def promoted(self, model: str, *expected: str) -> str:
        """Register and promote a version over `expected`."""
        version = await self.new_version(model)
        await self.promotions.promote(model, version, expected[0] if expected else "")
        return version

    async def aliases(self, model: str) -> dict[str, str]:
        found = await self.registry.find_model(model)
        assert found
        return dict(found.aliases)


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[Mesh]:
    replicas = [SteeredReplica("r1"), SteeredReplica("r2")]
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(replica_server(r)) for r in replicas]
        settings = ControlPlaneSettings(
            replicas=tuple(server.address for server in servers),
            mlflow_url=mlflow_url,
            database_url=postgres_url,
            upkeep_seconds=0.1,
            drain_seconds=0,
            grace_seconds=0,
        )
        control = await stack.enter_async_context(GrpcServer(ControlPlane(settings), settings))
        topology = MeshTopology(
            replicas=tuple(Address.parse(server.address) for server in servers),
            training=Address("127.0.0.1", 1),
            trigger=Address("127.0.0.1", 1),
            control_plane=Address.parse(control.address),
            port=free_port(),
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(tmp_path, topology))
        await envoy.wait_healthy("champion", 2)
        http = httpx.AsyncClient(base_url=f"{envoy.url}/v1", timeout=30)
        registry = Registry(mlflow_url)
        stack.push_async_callback(registry.close)
        await stack.enter_async_context(http)
        promotions = Promotions(postgres_url, registry)
        yield Mesh(http, replicas, servers, registry, promotions, mlflow_url)


async def test_a_fleet_is_loaded_reloaded_and_rolled_back(mesh: Mesh) -> None:
    model = "turns"
    first = await mesh.promoted(model)
    loaded = (await mesh.http.post(f"/models/{model}:reload", json={})).json()
    assert (loaded["fromVersion"], loaded["toVersion"]) == ("", first)
    second = await mesh.promoted(model, first)
    body = {"requestId": "batch-1"}
    reloaded = (await mesh.http.post(f"/models/{model}:reload", json=body)).json()
    assert [(r["replica"], r["fromVersion"], r["toVersion"]) for r in reloaded["replicas"]] == [
        ("r1", first, second),
        ("r2", first, second),
    ]
    assert (await mesh.http.post(f"/models/{model}:reload", json=body)).json() == reloaded
    tags = (await mesh.registry.get_version(model, second)).tags
    assert tags["mesh.reloaded_at"].startswith("20")

    answer = await mesh.http.post(f"/models/{model}:predict", json={"texts": ["a"]})
    assert answer.json()["model"]["version"] == second
    async with asyncio.timeout(10):
        while "mesh.first_answer_at" not in tags:
            tags = (await mesh.registry.get_version(model, second)).tags
            await asyncio.sleep(0.05)

    rolled_back = (await mesh.http.post(f"/models/{model}:rollback", json={})).json()
    assert (rolled_back["fromVersion"], rolled_back["toVersion"]) == (second, first)
    aliases = await mesh.aliases(model)
    assert aliases == {"Champion": first, "Previous": second, "Serving": first}


async def test_a_replica_that_cannot_prepare_is_named_with_its_step(mesh: Mesh) -> None:
    model = "failing"
    version = await mesh.promoted(model)
    mesh.replicas[1].fail_at = "warm-up"
    response = await mesh.http.post(f"/models/{model}:reload", json={})
    assert response.status_code == 409
    assert response.json()["message"] == (
        f"replica r2 failed at warm-up with version {version} of {model}: the disk is full; "
        "nothing was changed"
    )
    detail = response.json()["details"][0]
    assert detail["reason"] == "PREPARE_FAILED"
    assert detail["metadata"] == {"replica": "r2", "step": "warm-up"}
    assert "Serving" not in await mesh.aliases(model)
    assert mesh.replicas[0].ready == {}


async def test_what_is_missing_is_said(mesh: Mesh) -> None:
    response = await mesh.http.post("/models/nobody:reload", json={})
    assert response.status_code == 404
    await mesh.registry.ensure_model("untrained")
    response = await mesh.http.post("/models/untrained:reload", json={})
    assert response.status_code == 400
    assert response.json()["code"] == 9
    expected = "no version of untrained is promoted yet: train one first"
    assert response.json()["message"] == expected
    version = await mesh.promoted("untrained")
    response = await mesh.http.post("/models/untrained:reload", json={"version": "99"})
    assert (response.status_code, version) == (404, "1")
    assert response.json()["message"] == "untrained has no version 99"


async def test_the_fleet_shows_a_replica_that_is_down(mesh: Mesh) -> None:
    model = "shown"
    version = await mesh.promoted(model)
    await mesh.http.post(f"/models/{model}:reload", json={})
    await mesh.servers[1]._server.stop(0)
    fleet = (await mesh.http.get("/fleet")).json()
    assert [(r["healthy"], r["eligible"]) for r in fleet["replicas"]][1] == (False, False)
    assert fleet["replicas"][0]["models"][-1]["state"] == "MODEL_STATE_SERVING"
    shown = next(item for item in fleet["models"] if item["name"] == model)
    assert (shown["servingVersion"], shown["championVersion"]) == (version, version)


async def test_a_replica_that_lost_its_version_gets_it_back(mesh: Mesh) -> None:
    model = "forgotten"
    version = await mesh.promoted(model)
    await mesh.http.post(f"/models/{model}:reload", json={})
    mesh.replicas[0].serving.clear()
    async with asyncio.timeout(10):
        while mesh.replicas[0].serving.get(model) != version:
            await asyncio.sleep(0.02)


async def test_traffic_other_than_to_the_champion_is_refused(mesh: Mesh) -> None:
    await mesh.registry.ensure_model("whole")
    all_of_it = {"model": "whole", "championWeight": 100, "challengerWeight": 0, "mirrorPercent": 0}
    assert (await mesh.http.get("/models/whole/traffic")).json() == all_of_it
    assert (await mesh.http.put("/models/whole/traffic", json=all_of_it)).json() == all_of_it
    split = {"championWeight": 90, "challengerWeight": 10}
    response = await mesh.http.put("/models/whole/traffic", json=split)
    assert response.status_code == 501
    assert "Champion" in response.json()["message"]
