"""Trainings that bring nothing, one after the other.

Fault: none but repetition; the service keeps one version besides those with an alias.
Invariants: Champion and newest stay, whole; the version in between goes, with all its files.
"""

from pathlib import Path

import httpx
import pytest

from mesh.v1 import train_pb2
from service_kit.model_registry.records import CHAMPION
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.chaos.training.conftest import Start
from tests.real_parts.training_service import import_rows, make_rows

NOTHING_LEARNED = train_pb2.TrainParams(epochs=1, learning_rate=1e-7)


@pytest.mark.chaos_full
async def test_the_one_in_between(
    start: Start,
    postgres_url: str,
    mlflow_url: str,
    model: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    hold: Hold,
) -> None:
    import_rows(postgres_url, model, make_rows(80), new=True)
    registry = Registry(mlflow_url)
    async with start(postgres_url, mlflow_url, {"keep_versions": "1"}) as service:
        for request in ("r1", "r2"):
            await service.train(model, request, params=NOTHING_LEARNED)
            await service.ended(request)
        middle = await registry.get_version(model, "2")
        await service.train(model, "r3", params=NOTHING_LEARNED)
        await service.ended("r3")
        # The next job begins when the one before is tidied up.
        await service.train(model, "r4", params=train_pb2.TrainParams(epochs=1))
        await service.child_pid()
        versions = {found.version for found in await registry.list_versions(model)}
        found = await registry.find_model(model)
        assert found is not None
        for version in ("1", "3"):
            await registry.download(model, version, tmp_path / version)
    logged_model = middle.source.removeprefix("models:/")
    async with httpx.AsyncClient() as http:
        gone = await http.get(f"{mlflow_url}/api/2.0/mlflow/logged-models/{logged_model}")
    await registry.close()
    folder = f"mlflow[0-9]*/artifacts/**/{logged_model}/**/*"
    files = [path for path in tmp_path_factory.getbasetemp().glob(folder) if path.is_file()]
    hold("versions have a retention", versions == {"1", "3"}, f"versions {sorted(versions)}")
    hold("Champion stays", found.aliases == {CHAMPION: "1"}, f"{dict(found.aliases)}")
    hold(
        "its files go too",
        gone.status_code == 404 and not files,
        f"logged model: {gone.status_code}, files: {files}",
    )
