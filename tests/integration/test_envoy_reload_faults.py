"""A replica fails at each step of a Reload, under load: what clients see, and what serves then."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.steered_mesh import SteeredMesh, steered_mesh

CLIENTS = 16
NUMBERS = itertools.count(1)


@pytest.fixture
async def mesh(tmp_path: Path, mlflow_url: str, postgres_url: str) -> AsyncIterator[SteeredMesh]:
    async with steered_mesh(tmp_path, mlflow_url, postgres_url) as running:
        yield running


@pytest.fixture
def model() -> str:
    """A name that no other test has used in this registry."""
    return f"faults_{next(NUMBERS)}"


class Load:
    """Clients that ask one after the other, and what they were answered, in order of sending."""

    def __init__(self, model: str) -> None:
        self.model = model
        self.versions: list[str] = []
        self.failures: list[str] = []

    async def client(self, stub: Any, stop: asyncio.Event) -> None:
        request = predict_pb2.PredictRequest(model=self.model, texts=["a"])
        while not stop.is_set():
            number = len(self.versions)
            self.versions.append("")
            try:
                self.versions[number] = (await stub.Predict(request, timeout=10)).model.version
            except aio.AioRpcError as error:
                self.failures.append(f"{error.code().name}: {error.details()}")

    async def more(self, calls: int = 200) -> None:
        """Wait until so many more calls have been sent."""
        target = len(self.versions) + calls
        async with asyncio.timeout(10):
            while len(self.versions) < target:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def under_load(mesh: SteeredMesh, model: str) -> AsyncIterator[Load]:
    load, stop = Load(model), asyncio.Event()
    async with aio.insecure_channel(mesh.envoy.address) as channel:
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        clients = [asyncio.create_task(load.client(stub, stop)) for _ in range(CLIENTS)]
        await load.more()
        yield load
        await load.more()
        stop.set()
        await asyncio.gather(*clients)


@pytest.mark.parametrize("step", ["download", "load", "warm-up", "golden set", "killed"])
async def test_before_the_record_the_old_version_goes_on_everywhere(
    mesh: SteeredMesh, model: str, step: str
) -> None:
    old = await mesh.served(model)
    await mesh.promoted(model, old)
    async with under_load(mesh, model) as load:
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
    async with under_load(mesh, model) as load:
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
    async with under_load(mesh, model) as load:
        for _ in range(5):
            version = await mesh.promoted(model, version)
            await mesh.post(f"/models/{model}:reload", {})
            sent_before = len(load.versions)
            await load.more(100)
            assert set(load.versions[sent_before:]) <= {version, ""}
    assert load.failures == []
