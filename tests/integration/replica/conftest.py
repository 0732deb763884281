"""A replica that serves version 1 of `reviews`."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from service_kit.model_registry.records import CHAMPION, SERVING
from tests.integration.replica.rig import Client, Replica
from tests.twins.replica import FakeRegistry, write_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        str(version): write_model(folder / str(version), version, with_graph=version < 5)
        for version in range(1, 6)
    }


@pytest.fixture
def registry(models: dict[str, Path]) -> FakeRegistry:
    registry = FakeRegistry()
    registry.models["reviews"] = {}
    for version, folder in models.items():
        registry.add("reviews", version, folder)
    registry.models["reviews"] = {CHAMPION: "1", SERVING: "1"}
    return registry


@pytest.fixture
def replica(tmp_path: Path, registry: FakeRegistry) -> Replica:
    return Replica(tmp_path / "state", registry)


@pytest.fixture
async def client(replica: Replica) -> AsyncIterator[Client]:
    async with replica.running() as client:
        yield client
