"""The parts of the mesh do their work at a guarded MLflow with the token of each, and no more."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mesh.v1 import train_pb2
from mesh_cli.tokens import own_tokens
from mesh_cli.tokens.own_tokens import OwnTokens
from service_kit.errors import MeshError, NotFound
from service_kit.model_registry.mlflow_token import MlflowToken
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.model_registry.registry import Registry
from tests.real_parts.mlflow_server import guarded_mlflow
from tests.real_parts.training_service import (
    import_rows,
    make_rows,
    make_tiny_bert,
    running_service,
)
from tests.twins.signing import make_key


@pytest.fixture
def tokens(tmp_path: Path) -> OwnTokens:
    made = OwnTokens(tmp_path / "secrets")
    made.keys.public_file.parent.mkdir()
    made.make()
    return made


@pytest.fixture
def url(tmp_path: Path, tokens: OwnTokens) -> Iterator[str]:
    with guarded_mlflow(tmp_path / "mlflow", tokens.keys.public_file, open_reads=False) as running:
        yield running


def registry_of(url: str, tokens: OwnTokens, name: str) -> Registry:
    return Registry(url, auth=MlflowToken(tokens.keys.public_file.parent / name, url))


async def test_a_version_from_its_training_to_its_removal(
    url: str, tokens: OwnTokens, postgres_url: str, tmp_path: Path
) -> None:
    model = f"m{uuid.uuid4().hex[:12]}"
    settings = {
        "database_url": postgres_url,
        "mlflow_url": url,
        "mlflow_token_file": str(tokens.keys.public_file.parent / own_tokens.TRAINING_FILE),
        "state_dir": str(tmp_path / "state"),
        "base_model": str(make_tiny_bert(tmp_path / "base")),
        "device": "cpu",
        "drain_seconds": "0",
        "signing_key": str(make_key(tmp_path / "keys")[0]),
    }
    trigger = registry_of(url, tokens, own_tokens.TRIGGER_FILE)
    replica = registry_of(url, tokens, own_tokens.INFERENCE_FILE)
    control_plane = registry_of(url, tokens, own_tokens.CONTROL_PLANE_FILE)
    await trigger.ensure_model(model)
    import_rows(postgres_url, model, make_rows(40), new=True)
    params = train_pb2.TrainParams(epochs=1)
    async with running_service(settings, tmp_path / "training.log") as service:
        await service.train(model, f"retrain__{model}__1", params=params)
        job = await service.ended(f"retrain__{model}__1")
        assert (job.error, job.version) == ("", "1")
        # Somebody who got hold of the right to write puts other files in the Champion's place.
        training = registry_of(url, tokens, own_tokens.TRAINING_FILE)
        await training.write_file(model, "1", "model/config.json", b"{}")
        await service.train(model, f"retrain__{model}__2", params=params)
        job = await service.ended(f"retrain__{model}__2")
        assert job.error == (
            f"version 1 of {model} is refused: 'model/config.json' was altered after it was signed"
        )

    await replica.download(model, "1", tmp_path / "files")
    assert (tmp_path / "files" / "MLmodel").is_file()
    for attempt in (
        replica.set_alias(model, SERVING, "1"),
        replica.tag_version(model, "1", "mesh.reloaded_at", "now"),
        replica.write_file(model, "1", "MLmodel", b""),
        trigger.set_alias(model, CHAMPION, "1"),
        training.delete_model(model),
        control_plane.write_file(model, "1", "MLmodel", b""),
    ):
        with pytest.raises(MeshError, match="this call needs one of the scopes"):
            await attempt
    await control_plane.set_alias(model, SERVING, "1")
    await control_plane.tag_model(model, "mesh.serving", "signed")
    await control_plane.tag_version(model, "1", "mesh.reloaded_at", "now")
    await control_plane.delete_version(await control_plane.get_version(model, "1"))
    with pytest.raises(NotFound):
        await replica.get_version(model, "1")
    await control_plane.delete_model(model)
    assert await replica.find_model(model) is None
    for each in (trigger, replica, control_plane, training):
        await each.close()
