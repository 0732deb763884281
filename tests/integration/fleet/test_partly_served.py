"""Models that some replicas lack: a real Envoy sends their calls to the replicas that have them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.real_parts.steady_load import under_load
from tests.twins.steered_mesh import SteeredMesh, steered_mesh

CALLS = 100


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url, size=3) as running:
        yield running


async def served_by(mesh: SteeredMesh, model: str) -> set[str]:
    """Names of the replicas that answer over gRPC and over HTTP."""
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        request = predict_pb2.PredictRequest(model=model, texts=["a"])
        answers = await asyncio.gather(*(stub.Predict(request, timeout=10) for _ in range(CALLS)))
    replicas = {answer.replica for answer in answers}
    for _ in range(CALLS // 10):
        response = await mesh.post(f"/models/{model}:predict", {"texts": ["a"]})
        replicas.add(response.json()["replica"])
    return replicas


async def until_served_by(mesh: SteeredMesh, model: str, replicas: set[str]) -> None:
    async with asyncio.timeout(60):
        while await served_by(mesh, model) != replicas:
            await asyncio.sleep(0.05)


async def until_left_alone(mesh: SteeredMesh, number: int, model: str) -> None:
    """Wait until a replica is not asked any more for a model that it has withdrawn."""
    refused = mesh.replicas[number].refused
    async with asyncio.timeout(60):
        while True:
            before = refused[model]
            await served_by(mesh, model)
            if refused[model] == before:
                return


async def test_a_replica_that_lacks_one_model_answers_for_the_others(mesh: SteeredMesh) -> None:
    await mesh.served("lacked")
    await mesh.served("whole")
    stale = mesh.replicas[0]
    stale.fail_at = "load"
    stale.serving["lacked"] = "77"
    await until_served_by(mesh, "lacked", {"r2", "r3"})
    assert await served_by(mesh, "whole") == {"r1", "r2", "r3"}
    fleet = (await mesh.http.get("/fleet")).json()
    assert [replica["eligible"] for replica in fleet["replicas"]] == [False, True, True]
    assert "lacked: serves version 77, the fleet serves" in fleet["replicas"][0]["detail"]
    stale.fail_at = ""
    await until_served_by(mesh, "lacked", {"r1", "r2", "r3"})


async def test_a_withdrawn_model_fails_no_call_on_its_way_out_and_back(mesh: SteeredMesh) -> None:
    await mesh.served("leaving")
    async with under_load(mesh.envoy.address, "leaving") as load:
        for _ in range(3):
            mesh.replicas[1].withdrawn["leaving"] = "20 batches failed"
            await until_served_by(mesh, "leaving", {"r1", "r3"})
            mesh.replicas[1].withdrawn.clear()
            await until_served_by(mesh, "leaving", {"r1", "r2", "r3"})
    assert load.failures == []


async def test_a_model_that_no_replica_has_is_unavailable_in_words(mesh: SteeredMesh) -> None:
    await mesh.served("gone")
    await mesh.served("here")
    for replica in mesh.replicas:
        replica.withdrawn["gone"] = "20 batches failed"
    words = "no replica answers for gone at present; `mesh status` says why"
    async with httpx.AsyncClient(base_url=mesh.envoy.url) as http:
        async with asyncio.timeout(60):
            while (
                response := await http.post("/v1/models/gone:predict", json={"texts": ["a"]})
            ).json()["message"] != words:
                await asyncio.sleep(0.05)
        assert (response.status_code, response.json()["code"]) == (503, 14)
        for method, path in (("POST", "/v2/models/gone/infer"), ("GET", "/v2/models/gone")):
            response = await http.request(method, path)
            assert (response.status_code, response.json()) == (503, {"error": words})
        other = await http.get("/v2/models/gone_too")
        assert other.json() == {"error": "no healthy upstream"}
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as error:
            await stub.Predict(predict_pb2.PredictRequest(model="gone", texts=["a"]), timeout=5)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error.value.details() == words
        requests = iter([predict_pb2.PredictRequest(model="gone", texts=["a"], id="1")])
        stream = aiter(stub.PredictStream(requests))
        with pytest.raises(aio.AioRpcError) as error:
            await anext(stream)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await served_by(mesh, "here") == {"r1", "r2", "r3"}


async def test_a_split_holds_among_the_replicas_that_have_the_model(mesh: SteeredMesh) -> None:
    champion = await mesh.served("both")
    challenger = await mesh.challenged("both")
    await mesh.split("both", 50, 50)
    mesh.replicas[2].withdrawn["both"] = "20 batches failed"
    await until_left_alone(mesh, 2, "both")
    before = mesh.replicas[2].refused["both"]
    async with under_load(mesh.envoy.address, "both") as load:
        await load.more(500)
    assert load.failures == []
    assert set(load.versions) == {champion, challenger}
    assert mesh.replicas[2].refused["both"] == before


async def test_many_models_that_are_lacked_in_many_places(mesh: SteeredMesh) -> None:
    models = [f"lacked_{number}" for number in range(6)]
    for model in models:
        await mesh.served(model)
    for number, model in enumerate(models):
        mesh.replicas[number % 3].withdrawn[model] = "20 batches failed"
    for number, model in enumerate(models):
        await until_left_alone(mesh, number % 3, model)
        others = {"r1", "r2", "r3"} - {mesh.replicas[number % 3].name}
        assert await served_by(mesh, model) == others
    stats = await mesh.envoy.stats("update_rejected")
    assert sum(stats.values()) == 0


async def test_weight_is_taken_from_a_challenger_that_no_replica_can_be_asked_about(
    mesh: SteeredMesh,
) -> None:
    champion = await mesh.served("rolled_back")
    challenger = await mesh.challenged("rolled_back")
    await mesh.split("rolled_back", 50, 50)
    async with under_load(mesh.envoy.address, "rolled_back") as load:
        # The control plane loses the replicas' control port; Envoy still reaches their answers.
        for replica in mesh.replicas:
            replica.steerable = False
        await mesh.split("rolled_back", 100, 0)
        sent = len(load.versions)
        await load.more(300)
    assert load.failures == []
    # Calls that were under way may have been split as before.
    assert set(load.versions[sent + 32 :]) == {champion}
    assert set(load.versions[:sent]) == {champion, challenger}
    more = {"championWeight": 50, "challengerWeight": 50}
    response = await mesh.http.put("/models/rolled_back/traffic", json=more)
    assert (response.status_code, response.json()["code"]) == (503, 14)


async def test_a_split_is_not_called_done_before_envoy_has_it(mesh: SteeredMesh) -> None:
    await mesh.served("unheard")
    await mesh.challenged("unheard")
    await mesh.split("unheard", 50, 50)
    traffic: Any = mesh.control.service
    discovery = traffic._discovery
    # Envoy's connection to the control plane ends; it cannot come back.
    discovery.close()
    async with asyncio.timeout(60):
        while discovery._streams:
            await asyncio.sleep(0.02)
    body = {"championWeight": 100, "challengerWeight": 0}
    response = await mesh.http.put("/models/unheard/traffic", json=body)
    assert response.status_code == 503
    assert "100/0 is recorded for unheard" in response.json()["message"]
    assert "Envoy" in response.json()["message"]
    # The replicas have dropped the Challenger, so Envoy's old split leads to the Champion.
    assert [replica.challengers for replica in mesh.replicas] == [{}, {}, {}]
