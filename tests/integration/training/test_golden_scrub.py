"""Golden sets of older releases lose the texts of rows that they hold, on a real MLflow."""

import json
import uuid
from pathlib import Path

import httpx
import mlflow
import pytest

from service_kit.errors import Unavailable
from service_kit.model_registry.records import TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from service_kit.signing.keys import SigningKey, TrustedKeys
from service_kit.signing.manifest import MANIFEST_FILE, digests, read_manifest
from tests.twins.signing import make_key, sign_version
from training_svc.jobs.golden_scrub import scrub_golden_sets

OLD = {
    "labels": ["neg", "pos"],
    "max_tokens": 32,
    "graph": None,
    "golden": [{"text": "the text of a row", "label": "pos", "scores": [0.1, 0.9]}],
}


def register(
    mlflow_url: str, model: str, folder: Path, content: object, tags: dict[str, str]
) -> str:
    """Register a version that has nothing but a golden set."""
    (folder / "golden.json").write_text(json.dumps(content))
    client = mlflow.MlflowClient(mlflow_url)
    mlflow.set_tracking_uri(mlflow_url)
    experiment = client.create_experiment(f"{model}-{uuid.uuid4().hex}")
    run = client.create_run(experiment)
    logged = client.create_logged_model(experiment, name="model", source_run_id=run.info.run_id)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    version = client.create_model_version(
        model,
        source=f"models:/{logged.model_id}",
        run_id=run.info.run_id,
        model_id=logged.model_id,
        tags=tags,
        await_creation_for=0,
    )
    return str(version.version)


async def test_old_golden_sets_are_emptied_and_others_stay(mlflow_url: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_url)
    model = f"m{uuid.uuid4().hex[:12]}"
    await registry.ensure_model(model)
    ours = {TAG_JOB_ID: "job-1"}
    new = OLD | {"made": True}
    versions = {
        "old": register(mlflow_url, model, tmp_path, OLD, ours),
        "new": register(mlflow_url, model, tmp_path, new, ours),
        "of others": register(mlflow_url, model, tmp_path, OLD, {}),
    }
    assert await scrub_golden_sets(registry) >= 1
    files = {
        name: json.loads(await registry.read_file(model, version, "golden.json"))
        for name, version in versions.items()
    }
    assert files["old"] == OLD | {"golden": [], "made": True}
    assert files["new"] == new
    assert files["of others"] == OLD
    assert await scrub_golden_sets(registry) == 0
    await registry.close()


async def test_a_signed_version_is_signed_again_without_the_texts(
    mlflow_url: str, tmp_path: Path
) -> None:
    registry = Registry(mlflow_url)
    model = f"m{uuid.uuid4().hex[:12]}"
    await registry.ensure_model(model)
    private, public = make_key(tmp_path / "keys")
    files = tmp_path / "files"
    files.mkdir()
    ours = {TAG_JOB_ID: "job-1"}
    version = register(mlflow_url, model, files, OLD, ours)
    found = await registry.get_version(model, version)
    sign_version(files, private, model, found.source, found.run_id)
    signed = (files / MANIFEST_FILE).read_bytes()
    await registry.write_file(model, version, MANIFEST_FILE, signed)
    assert await scrub_golden_sets(registry, SigningKey.read(private)) >= 1
    await registry.download(model, version, tmp_path / "download")
    content = (tmp_path / "download" / MANIFEST_FILE).read_bytes()
    manifest = read_manifest(content, TrustedKeys(public))
    assert manifest.files == digests(tmp_path / "download")
    assert json.loads((tmp_path / "download" / "golden.json").read_text())["golden"] == []
    await registry.close()


async def test_mlflow_that_is_away_is_told_so_that_the_scrub_is_tried_again() -> None:
    registry = Registry("http://mlflow", httpx.MockTransport(lambda request: httpx.Response(503)))
    with pytest.raises(Unavailable):
        await scrub_golden_sets(registry)
    await registry.close()
