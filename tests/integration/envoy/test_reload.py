"""Reload and Rollback over JSON, with a real Envoy, MLflow, PostgreSQL and control plane."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.real_parts.waiting import until
from tests.twins.steered_mesh import SteeredMesh, steered_mesh
from tests.twins.toy_services import stop_at_once


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as running:
        yield running


async def test_a_fleet_is_loaded_reloaded_and_rolled_back(mesh: SteeredMesh) -> None:
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
    async with asyncio.timeout(60):
        while "mesh.first_answer_at" not in tags:
            tags = (await mesh.registry.get_version(model, second)).tags
            await asyncio.sleep(0.05)

    rolled_back = (await mesh.http.post(f"/models/{model}:rollback", json={})).json()
    assert (rolled_back["fromVersion"], rolled_back["toVersion"]) == (second, first)
    aliases = await mesh.aliases(model)
    assert aliases == {"Champion": first, "Previous": second, "Serving": first}


async def test_a_replica_that_cannot_prepare_is_named_with_its_step(mesh: SteeredMesh) -> None:
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


async def test_http_goes_to_the_listeners_that_replicas_report(mesh: SteeredMesh) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A connection without a request is Envoy's health check.
        if await reader.read(65536):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listener:
        mesh.replicas[1].http_port = listener.sockets[0].getsockname()[1]
        await mesh.envoy.wait_healthy("champion-http", 1)
        async with httpx.AsyncClient(base_url=mesh.envoy.url) as http:
            assert (await http.get("/v2/health/live")).status_code == 200
            mesh.replicas[1].http_port = 0
            await mesh.envoy.wait_healthy("champion-http", 0)
            assert (await http.get("/v2/health/live")).json() == {"error": "no healthy upstream"}


async def test_the_error_says_what_is_missing(mesh: SteeredMesh) -> None:
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


async def test_the_fleet_shows_a_replica_that_is_down(mesh: SteeredMesh) -> None:
    model = "shown"
    version = await mesh.promoted(model)
    await mesh.http.post(f"/models/{model}:reload", json={})
    await stop_at_once(mesh.servers[1])
    fleet = (await mesh.http.get("/fleet")).json()
    assert [(r["healthy"], r["eligible"]) for r in fleet["replicas"]][1] == (False, False)
    assert fleet["replicas"][0]["models"][-1]["state"] == "MODEL_STATE_SERVING"
    shown = next(item for item in fleet["models"] if item["name"] == model)
    assert (shown["servingVersion"], shown["championVersion"]) == (version, version)


async def test_a_replica_that_lost_its_version_gets_it_back(mesh: SteeredMesh) -> None:
    model = "forgotten"
    version = await mesh.promoted(model)
    await mesh.http.post(f"/models/{model}:reload", json={})
    mesh.replicas[0].serving.clear()
    await until(lambda: mesh.replicas[0].serving.get(model) == version)
