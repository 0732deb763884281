"""RemoveModel over JSON, with a real Envoy, MLflow, PostgreSQL and control plane."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.real_parts.waiting import until
from tests.twins.steered_mesh import SteeredMesh, steered_mesh
from tests.twins.toy_replica import replica_server
from tests.twins.toy_services import stop_at_once


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as running:
        yield running


async def test_a_model_is_removed_with_all_that_belongs_to_it(mesh: SteeredMesh) -> None:
    model, other = "ended", "stays"
    kept = await mesh.served(other)
    first = await mesh.served(model)
    second = await mesh.challenged(model)
    await mesh.split(model, 50, 50)
    jobs, rows = mesh.services.jobs, mesh.services.rows
    for job, owner in (("job-1", model), ("job-2", model), ("job-3", other)):
        jobs.add(job, owner)
    rows.models |= {model, other}
    rows.tables |= {model, other}

    query = "?with_rows=true&request_id=end-1"
    answer = (await mesh.http.delete(f"/models/{model}{query}")).raise_for_status().json()
    assert answer["versions"] == [first, second]
    assert answer["rowsRemoved"]
    assert answer["replicasAway"] == []
    assert {job.id for job in jobs.jobs.values() if job.state == 6} == {"job-1", "job-2"}
    assert (rows.models, rows.tables) == ({other}, {other})
    assert await mesh.registry.find_model(model) is None
    for replica in mesh.replicas:
        assert replica.serving == {other: kept}
        assert replica.challengers == {}
    fleet = (await mesh.http.get("/fleet")).json()
    assert [item["name"] for item in fleet["models"]] == [other]
    assert (await mesh.http.get(f"/models/{model}/traffic")).status_code == 404
    assert (await mesh.post(f"/models/{other}:predict", {"texts": ["a"]})).is_success

    again = await mesh.http.delete(f"/models/{model}{query}")
    assert again.json() == answer, "the same request gets the same answer"
    assert (await mesh.http.delete(f"/models/{model}")).status_code == 404


async def test_a_model_made_anew_has_nothing_of_the_removed_one(mesh: SteeredMesh) -> None:
    model = "renewed"
    old = await mesh.served(model)
    await mesh.post(f"/models/{model}:reload", {"requestId": "turn-1"})
    (await mesh.http.delete(f"/models/{model}")).raise_for_status()
    new = await mesh.promoted(model)
    assert new == old
    await mesh.post(f"/models/{model}:reload", {"requestId": "turn-1"})
    source = (await mesh.registry.get_version(model, new)).source
    assert {replica.sources[(model, "serving")] for replica in mesh.replicas} == {source}


async def test_a_replica_that_was_away_drops_the_model_when_it_answers_again(
    mesh: SteeredMesh,
) -> None:
    model = "missed"
    await mesh.served(model)
    port = int(mesh.servers[1].address.rpartition(":")[2])
    await stop_at_once(mesh.servers[1])
    answer = (await mesh.http.delete(f"/models/{model}")).raise_for_status().json()
    assert answer["replicasAway"] == ["r2"]
    await mesh.restart()
    assert model in mesh.replicas[1].serving
    async with replica_server(mesh.replicas[1], port):
        await until(lambda: model not in mesh.replicas[1].serving)


async def test_a_removal_waits_for_the_trigger_and_goes_on_after_a_restart(
    mesh: SteeredMesh,
) -> None:
    model = "interrupted"
    await mesh.served(model)
    address = mesh.settings.trigger
    mesh.settings = mesh.settings.model_copy(update={"trigger": "127.0.0.1:1"})
    await mesh.restart()
    refused = await mesh.http.delete(f"/models/{model}")
    assert refused.status_code == 503
    assert "the trigger service did not do its part" in refused.json()["message"]
    assert model in mesh.replicas[0].serving
    mesh.settings = mesh.settings.model_copy(update={"trigger": address})
    await mesh.restart()
    await until(lambda: not any(model in replica.serving for replica in mesh.replicas))
    assert await mesh.registry.find_model(model) is None
