"""MLflow registers a version twice: it carries out a repeated request, and later the first one.

Fault: the service is killed after it has registered its version, and then a second version of the
same job is registered.
Invariants: only the first version is left, with its files; the job goes on and ends well.
"""

from pathlib import Path

import httpx
import pytest

from mesh.v1 import train_pb2
from service_kit.model_registry.registry import Registry
from tests.chaos.conftest import Hold
from tests.chaos.training.conftest import Start, check
from tests.chaos.training.test_service_killed import registered
from tests.real_parts.training_service import import_rows, make_rows


@pytest.mark.chaos_full
async def test_first_version_is_left(
    start: Start, postgres_url: str, mlflow_url: str, model: str, tmp_path: Path, hold: Hold
) -> None:
    import_rows(postgres_url, model, make_rows(80), new=True)
    registry = Registry(mlflow_url)
    async with start(postgres_url, mlflow_url) as service:
        await service.train(model, "r1", params=train_pb2.TrainParams(epochs=60))
        await registered(service, model, mlflow_url)
        service.process.kill()
        await service.process.wait()
    [first] = await registry.list_versions(model)
    second = {
        "name": model,
        "source": first.source,
        "run_id": first.run_id,
        "model_id": first.source.removeprefix("models:/"),
        "tags": [{"key": key, "value": value} for key, value in first.tags.items()],
    }
    url = f"{mlflow_url}/api/2.0/mlflow/model-versions/create"
    async with httpx.AsyncClient() as http:
        (await http.post(url, json=second)).raise_for_status()
    async with start(postgres_url, mlflow_url) as service:
        job = await service.ended("r1")
    await check(hold, mlflow_url, job)
    await registry.download(model, first.version, tmp_path / "files")
    await registry.close()
    hold("the first one stays", job.version == first.version, f"version {job.version}")
