"""A replica with keys, against a real MLflow to which a stranger writes."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from grpc import aio
from mlflow import MlflowClient

from inference_svc.main import REFLECTED, make_service
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc, replica_pb2, replica_pb2_grpc
from service_kit.model_registry.records import SERVING
from service_kit.model_registry.registry import Registry
from service_kit.server import GrpcServer
from service_kit.signing.keys import SigningKey
from service_kit.signing.records import TAG_SERVING, Record, serving_value, signed_tag
from tests.twins.replica import write_model
from tests.twins.signing import make_key, sign_version


class SignedModels:
    """A registered model whose versions are signed, or not."""

    def __init__(self, mlflow_url: str, folder: Path) -> None:
        self.url = mlflow_url
        self.name = f"m{uuid.uuid4().hex[:12]}"
        self.folder = folder
        self.state = folder / "state"
        self.key, self.keys = make_key(folder / "keys")
        self.record_key, self.record_keys = make_key(folder / "keys", "records")
        self.client = MlflowClient(mlflow_url)
        self.client.create_registered_model(self.name)

    def register(self, files: Path, key: Path | None, model: str = "") -> str:
        """Register a copy of the files, signed as a version of `model`; None: not signed."""
        run = self.client.create_run("0")
        logged = self.client.create_logged_model("0", source_run_id=run.info.run_id)
        source = f"models:/{logged.model_id}"
        if key is not None:
            sign_version(files, key, model or self.name, source, run.info.run_id)
        self.client.log_model_artifacts(logged.model_id, str(files))
        self.client.finalize_logged_model(logged.model_id, "READY")
        version = self.client.create_model_version(
            self.name, source, run.info.run_id, model_id=logged.model_id
        )
        return str(version.version)

    async def record(self, version: str) -> None:
        """Record a version as served, as the control plane does."""
        registry = Registry(self.url)
        model = await registry.find_model(self.name)
        assert model
        ref = (await registry.get_version(self.name, version)).ref
        key = SigningKey.read(self.record_key)
        text = signed_tag(model, TAG_SERVING, Record(serving_value(ref), 1), key)
        await registry.tag_model(self.name, TAG_SERVING, text)
        await registry.close()

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[aio.Channel]:
        """Run a replica, which keeps its state for the next one."""
        settings = InferenceSettings(
            mlflow_url=self.url,
            state_dir=self.state,
            device="cpu",
            drain_seconds=0,
            model_keys=self.keys,
            record_keys=self.record_keys,
        )
        async with (
            GrpcServer(make_service(settings), settings, REFLECTED) as server,
            aio.insecure_channel(server.address) as channel,
        ):
            yield channel

    async def prepare(self, channel: aio.Channel, version: str) -> str:
        """Have the replica prepare a version; return why it refused; empty: it did not."""
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)
        try:
            await stub.Prepare(replica_pb2.PrepareRequest(model=self.name, version=version))
        except aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        return ""

    async def version_that_answers(self, channel: aio.Channel) -> str:
        stub = predict_pb2_grpc.PredictServiceStub(channel)
        request = pb.PredictRequest(model=self.name, texts=["a great film"])
        try:
            return (await stub.Predict(request)).model.version
        except aio.AioRpcError:
            return ""


@pytest.fixture
def models(mlflow_url: str, tmp_path: Path) -> SignedModels:
    return SignedModels(mlflow_url, tmp_path)


async def test_only_what_the_training_service_signed_is_prepared(
    models: SignedModels, tmp_path: Path
) -> None:
    files = write_model(tmp_path / "files")
    signed = models.register(files, models.key)
    registry = Registry(models.url)
    altered = models.register(files, models.key)
    await registry.write_file(models.name, altered, "golden.json", b'{"labels": ["x"]}')
    foreign = models.register(files, models.key, model="films")
    (files / "model.sig").unlink()
    unsigned = models.register(files, None)
    stranger, _ = make_key(tmp_path / "stranger")
    forged = models.register(files, stranger)
    async with models.replica() as channel:
        assert await models.prepare(channel, signed) == ""
        for version, why in {
            unsigned: "is refused: it is not signed (model.sig is missing)",
            altered: "is refused: 'golden.json' was altered after it was signed",
            foreign: "its files were signed for the model 'films'",
            forged: "is refused: its key",
        }.items():
            refusal = await models.prepare(channel, version)
            assert refusal.startswith(f"ABORTED: download: version {version} of {models.name} ")
            assert why in refusal
    # A copy of signed files, registered as another version.
    run = models.client.create_run("0")
    copied = models.client.create_logged_model("0", source_run_id=run.info.run_id)
    download = tmp_path / "download"
    await registry.download(models.name, signed, download)
    models.client.log_model_artifacts(copied.model_id, str(download))
    copy = models.client.create_model_version(
        models.name, f"models:/{copied.model_id}", run.info.run_id, model_id=copied.model_id
    )
    async with models.replica() as channel:
        refusal = await models.prepare(channel, str(copy.version))
        assert "its files were signed for the source" in refusal
    await registry.close()


async def test_a_replica_that_starts_serves_what_was_recorded_and_not_the_alias(
    models: SignedModels, tmp_path: Path
) -> None:
    files = write_model(tmp_path / "files")
    first, second = (models.register(files, models.key) for _ in range(2))
    models.client.set_registered_model_alias(models.name, SERVING, second)
    async with models.replica() as channel:
        assert await models.version_that_answers(channel) == ""
    await models.record(first)
    async with models.replica() as channel:
        assert await models.version_that_answers(channel) == first
    # The copy on its disk is checked at each start as well, and fetched anew.
    (cached,) = models.state.glob(f"models/{models.name}/{first}-*/golden.json")
    cached.write_text("{}")
    async with models.replica() as channel:
        assert await models.version_that_answers(channel) == first
    assert cached.read_text() != "{}"
