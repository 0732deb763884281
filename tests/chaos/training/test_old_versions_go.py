"""Trainings without any gain, one after another.

Fault: only repetition; the service keeps one version besides those with an alias.
Invariants: Champion and newest version stay whole; the version between them is deleted, with its
files.
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
async def test_version_between_champion_and_newest_is_deleted_with_its_files(
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
        # The next job starts only after the retention of the previous one.
        await service.train(model, "r4", params=train_pb2.TrainParams(epochs=1))
        await service.child_pid()
        versions = {version.version for version in await registry.list_versions(model)}
        registered = await registry.find_model(model)
        assert registered is not None
        for version in ("1", "3"):
            await registry.download(model, version, tmp_path / version)
    logged_model = middle.source.removeprefix("models:/")
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"{mlflow_url}/api/2.0/mlflow/logged-models/{logged_model}")
    await registry.close()
    folder = f"mlflow[0-9]*/artifacts/**/{logged_model}/**/*"
    files = [path for path in tmp_path_factory.getbasetemp().glob(folder) if path.is_file()]
    hold("versions have a retention", versions == {"1", "3"}, f"versions {sorted(versions)}")
    hold("Champion stays", registered.aliases == {CHAMPION: "1"}, f"{dict(registered.aliases)}")
    hold(
        "its files go too",
        answer.status_code == 404 and not files,
        f"logged model: {answer.status_code}, files: {files}",
    )
