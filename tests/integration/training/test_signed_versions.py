"""What the training service registers is signed; what was there before it is signed once."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

import mlflow
import pytest

from mesh.v1 import train_pb2
from service_kit.errors import NotFound
from service_kit.model_registry.records import CHAMPION, PREVIOUS, SERVING, TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from service_kit.signing.keys import TrustedKeys
from service_kit.signing.manifest import MANIFEST_FILE, digests, read_manifest
from tests.real_parts.training_service import (
    Service,
    import_rows,
    make_rows,
    make_tiny_bert,
    running_service,
)
from tests.real_parts.trigger_service import query
from tests.real_parts.waiting import until_async
from tests.twins.signing import make_key


class Running(Protocol):
    def __call__(self, **settings: str) -> AbstractAsyncContextManager[Service]: ...


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return make_key(tmp_path / "keys")


@pytest.fixture
async def registry(mlflow_url: str) -> AsyncIterator[Registry]:
    registry = Registry(mlflow_url)
    yield registry
    await registry.close()


@pytest.fixture
def running(postgres_url: str, mlflow_url: str, keys: tuple[Path, Path], tmp_path: Path) -> Running:
    settings = {
        "database_url": postgres_url,
        "mlflow_url": mlflow_url,
        "state_dir": str(tmp_path / "state"),
        "base_model": str(make_tiny_bert(tmp_path / "base")),
        "device": "cpu",
        "drain_seconds": "0",
        "signing_key": str(keys[0]),
    }
    return lambda **more: running_service(settings | more, tmp_path / "training.log")


async def test_a_trained_version_carries_a_manifest_of_all_its_files(
    running: Running,
    postgres_url: str,
    mlflow_url: str,
    keys: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    model = f"m{uuid.uuid4().hex[:12]}"
    import_rows(postgres_url, model, make_rows(40), new=True)
    async with running() as service:
        params = train_pb2.TrainParams(epochs=1)
        await service.train(model, f"retrain__{model}__1", params=params)
        job = await service.ended(f"retrain__{model}__1")
        assert job.error == ""
    registry = Registry(mlflow_url)
    version = await registry.get_version(model, job.version)
    await registry.download(model, job.version, tmp_path / "files")
    await registry.close()
    content = (tmp_path / "files" / MANIFEST_FILE).read_bytes()
    manifest = read_manifest(content, TrustedKeys(keys[1]))
    assert manifest.files == digests(tmp_path / "files")
    assert {"golden.json", "MLmodel", "model/model.safetensors"} <= manifest.files.keys()
    assert (manifest.model, manifest.source) == (model, version.source)
    assert manifest.run_id == version.run_id == job.run_id
    assert manifest.about["rows_digest"]
    assert manifest.about["batch_id"] == f"retrain__{model}__1"
    assert manifest.about["decision"]["outcome"] == "PROMOTED"


def register(mlflow_url: str, model: str, folder: Path, golden: str = '{"made": true}') -> str:
    """Register a version with one file, which is not signed."""
    folder.mkdir(exist_ok=True)
    (folder / "golden.json").write_text(golden)
    client = mlflow.MlflowClient(mlflow_url)
    run = client.create_run("0")
    logged = client.create_logged_model("0", source_run_id=run.info.run_id)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    source = f"models:/{logged.model_id}"
    created = client.create_model_version(model, source, run.info.run_id, model_id=logged.model_id)
    return str(created.version)


async def test_versions_in_use_are_signed_at_the_first_start_with_a_key_and_never_again(
    running: Running,
    registry: Registry,
    mlflow_url: str,
    postgres_url: str,
    keys: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    model = f"m{uuid.uuid4().hex[:12]}"
    await registry.ensure_model(model)
    versions = [register(mlflow_url, model, tmp_path / "files") for _ in range(4)]
    for alias, version in zip((CHAMPION, SERVING, PREVIOUS), versions, strict=False):
        await registry.set_alias(model, alias, version)

    async def is_signed(version: str) -> bool:
        try:
            content = await registry.read_file(model, version, MANIFEST_FILE)
        except NotFound:
            return False
        manifest = read_manifest(content, TrustedKeys(keys[1]))
        assert (manifest.model, set(manifest.files)) == (model, {"golden.json"})
        return True

    async def are_signed() -> bool:
        return all([await is_signed(version) for version in versions[:3]])

    async def is_noted() -> bool:
        return bool(query(postgres_url, "SELECT key_id FROM mesh.signing_keys"))

    log = tmp_path / "training.log"
    async with running():
        await until_async(are_signed)
        # It notes that a key has signed after it has looked at every model of this MLflow.
        await until_async(is_noted)
    assert not await is_signed(versions[3]), "no alias named it"
    assert log.read_text().count("a version from before signatures is signed now") >= 3
    strange = register(mlflow_url, model, tmp_path / "files")
    await registry.set_alias(model, CHAMPION, strange)
    later, _ = make_key(tmp_path / "keys", "later")
    for key in (keys[0], later):
        old = register(mlflow_url, model, tmp_path / "files", '{"golden": ["a row"]}')
        await registry.tag_version(model, old, TAG_JOB_ID, "job-1")

        async def is_emptied(version: str = old) -> bool:
            return b"a row" not in await registry.read_file(model, version, "golden.json")

        async with running(signing_key=str(key)):
            # The service empties golden sets after it has looked what to sign.
            await until_async(is_emptied)
        assert not await is_signed(strange), "a key had signed before"
