"""A replica fails at each step of a Reload under load: the answers of clients, and the version
that serves afterwards."""

import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.real_parts.steady_load import under_load
from tests.twins.steered_mesh import SteeredMesh, steered_mesh

NUMBERS = itertools.count(1)


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as running:
        yield running


@pytest.fixture
def model() -> str:
    """Return a name that no other test has used in this registry."""
    return f"faults_{next(NUMBERS)}"


@pytest.mark.parametrize("step", ["download", "load", "warm-up", "golden set", "killed"])
async def test_before_the_record_the_old_version_goes_on_everywhere(
    mesh: SteeredMesh, model: str, step: str
) -> None:
    old = await mesh.served(model)
    await mesh.promoted(model, old)
    async with under_load(mesh.envoy.address, model) as load:
        if step == "killed":
            mesh.replicas[1].when_preparing = lambda: mesh.kill(1)
        else:
            mesh.replicas[1].fail_at = step
        answer = await mesh.http.post(f"/models/{model}:reload", json={})
        assert answer.status_code == 409
        assert "r2 failed at" in answer.json()["message"]
        if step != "killed":
            assert f"failed at {step}" in answer.json()["message"]
        await load.more()
    assert load.failures == []
    assert set(load.versions) == {old}
    assert (await mesh.aliases(model))["Serving"] == old


@pytest.mark.parametrize("step", ["activate", "killed"])
async def test_after_the_record_the_rest_serves_the_new_version(
    mesh: SteeredMesh, model: str, step: str
) -> None:
    old = await mesh.served(model)
    new = await mesh.promoted(model, old)
    async with under_load(mesh.envoy.address, model) as load:
        if step == "killed":
            mesh.replicas[1].when_activating = lambda: mesh.kill(1)
        else:
            mesh.replicas[1].fail_activate = True
        answer = await mesh.post(f"/models/{model}:reload", {})
        sent_before = len(load.versions)
        moved = {part["replica"]: part["toVersion"] for part in answer.json()["replicas"]}
        assert moved == {"r1": new, "r2": old}
        await load.more()
    assert load.failures == []
    assert set(load.versions[sent_before:]) == {new}
    assert (await mesh.aliases(model))["Serving"] == new


async def test_after_reload_returns_only_the_new_version_answers(
    mesh: SteeredMesh, model: str
) -> None:
    version = await mesh.served(model)
    sent_before: dict[str, int] = {}
    async with under_load(mesh.envoy.address, model) as load:
        for _ in range(5):
            version = await mesh.promoted(model, version)
            await mesh.post(f"/models/{model}:reload", {})
            sent_before[version] = len(load.versions)
            await load.more(100)
    assert load.failures == []
    for reloaded, start in sent_before.items():
        assert min(int(answered) for answered in load.versions[start:]) == int(reloaded)
