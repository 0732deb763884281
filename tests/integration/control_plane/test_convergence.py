"""What the control plane does by itself, with a real Envoy, MLflow and PostgreSQL: it makes the
switch whose run was stopped, and never takes one model for another of the same name."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from service_kit.errors import Aborted
from tests.real_parts.mlflow_server import forget_models
from tests.real_parts.waiting import until, until_async
from tests.twins.steered_mesh import SteeredMesh, steered_mesh


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as running:
        yield running


async def shown(mesh: SteeredMesh, model: str) -> dict[str, Any]:
    """The model as the fleet shows it."""
    fleet = (await mesh.http.get("/fleet")).json()
    found: dict[str, Any] = {item["name"]: item for item in fleet["models"]}[model]
    return found


async def test_a_promotion_that_nobody_reloads_is_served_within_seconds(mesh: SteeredMesh) -> None:
    model = "unreloaded"
    first = await mesh.served(model)
    second = await mesh.promoted(model, first, serve=True)
    assert "was promoted and the fleet serves version" in (await shown(mesh, model))["detail"]
    await until(lambda: [r.serving[model] for r in mesh.replicas] == [second, second], 15)
    answer = await mesh.post(f"/models/{model}:predict", {"texts": ["a"]})
    assert answer.json()["model"]["version"] == second
    assert (await mesh.aliases(model))["Serving"] == second


async def test_a_pinned_version_outlives_a_restart_of_the_control_plane(mesh: SteeredMesh) -> None:
    model = "pinned"
    first = await mesh.served(model)
    second = await mesh.promoted(model, first, serve=True)
    await mesh.post(f"/models/{model}:reload", {"version": first})
    await mesh.restart()
    # The upkeep of the new control plane has looked, since it repaired a replica.
    mesh.replicas[1].serving.clear()
    await until(lambda: mesh.replicas[1].serving.get(model) == first)
    state = await shown(mesh, model)
    assert (state["servingVersion"], state["championVersion"]) == (first, second)
    assert state["pinned"]
    await mesh.post(f"/models/{model}:reload", {})
    assert (await shown(mesh, model))["detail"] == ""


async def test_a_model_made_anew_answers_with_its_own_version(mesh: SteeredMesh) -> None:
    model = "twice"
    first = await mesh.served(model)
    body: dict[str, object] = {"requestId": "retrain__twice__1"}
    await mesh.post(f"/models/{model}:reload", body)
    old = mesh.replicas[0].sources[(model, "serving")]
    await forget_models(mesh.mlflow_url)

    async def is_gone() -> bool:
        return "MLflow has no model twice any more" in (await shown(mesh, model))["detail"]

    await until_async(is_gone)
    assert (await mesh.post(f"/models/{model}:predict", {"texts": ["a"]})).is_success
    again = await mesh.promoted(model)
    assert again == first, "the number of the new model's version is that of the old one's"
    reloaded = (await mesh.post(f"/models/{model}:reload", body)).json()
    assert reloaded["toVersion"] == again
    sources = {replica.sources[(model, "serving")] for replica in mesh.replicas}
    assert sources == {(await mesh.registry.get_version(model, again)).source}
    assert old not in sources


async def test_what_was_compared_with_the_old_model_is_not_promoted_in_the_new_one(
    mesh: SteeredMesh,
) -> None:
    model = "compared"
    old = await mesh.registry.get_version(model, await mesh.promoted(model))
    await mesh.post(f"/models/{model}:reload", {})
    await forget_models(mesh.mlflow_url)
    champion = await mesh.promoted(model)
    challenger = await mesh.registry.get_version(model, await mesh.new_version(model))
    assert champion == old.version
    with pytest.raises(Aborted, match="made anew") as error:
        await mesh.promotions.promote(
            model, challenger.version, champion, expected_source=old.source
        )
    assert error.value.reason == "MODEL_REPLACED"
    with pytest.raises(Aborted, match="made anew"):
        await mesh.promotions.promote(model, old.version, "", source=old.source)
    with pytest.raises(Aborted, match="made anew"):
        await mesh.promotions.promote(model, old.version, "", run_id="run of the old version")


async def test_a_deleted_champion_is_said_to_be_deleted(mesh: SteeredMesh) -> None:
    model = "beheaded"
    version = await mesh.served(model)
    await mesh.registry.unregister(model, version)
    answer = await mesh.http.post(f"/models/{model}:reload", json={})
    assert answer.json()["code"] == 9
    assert f"has no Champion any more, which was version {version}" in answer.json()["message"]
    assert (await mesh.post(f"/models/{model}:predict", {"texts": ["a"]})).is_success


async def test_answers_by_request_id_outlive_the_control_plane(mesh: SteeredMesh) -> None:
    model = "remembered"
    first = await mesh.served(model)
    second = await mesh.promoted(model, first)
    answered = (await mesh.post(f"/models/{model}:reload", {"requestId": "a"})).json()
    back = (await mesh.post(f"/models/{model}:rollback", {"requestId": "b"})).json()
    forth = (await mesh.post(f"/models/{model}:rollback", {"requestId": "c"})).json()
    assert (back["toVersion"], forth["toVersion"]) == (first, second)
    await mesh.restart()
    assert (await mesh.post(f"/models/{model}:reload", {"requestId": "a"})).json() == answered
    assert (await mesh.post(f"/models/{model}:rollback", {"requestId": "b"})).json() == back
    assert (await mesh.aliases(model))["Champion"] == second
    refused = await mesh.http.post(f"/models/{model}:rollback", json={"requestId": "a"})
    assert (refused.status_code, refused.json()["code"]) == (409, 6)
