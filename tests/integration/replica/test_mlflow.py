"""A replica against a real MLflow server: alias, artifacts and tags come from there."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from grpc import aio
from mlflow import MlflowClient

from inference_svc.main import REFLECTED, make_service
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc, replica_pb2, replica_pb2_grpc
from service_kit.model_registry.records import SERVING, TAG_BATCH_ID
from service_kit.server import GrpcServer
from tests.twins.replica import write_model

MODEL = "replica_reviews"


@pytest.fixture
def mlflow(mlflow_url: str, tmp_path: Path) -> Iterator[MlflowClient]:
    client = MlflowClient(mlflow_url)
    client.create_registered_model(MODEL)
    for seed in (1, 2):
        run = client.create_run("0")
        client.log_artifacts(run.info.run_id, str(write_model(tmp_path / str(seed), seed)), "model")
        client.create_model_version(
            MODEL,
            f"{run.info.artifact_uri}/model",
            run.info.run_id,
            tags={TAG_BATCH_ID: f"batch-{seed}"},
        )
    client.set_registered_model_alias(MODEL, SERVING, "1")
    yield client
    client.delete_registered_model(MODEL)


async def test_replica_serves_what_mlflow_says_and_reloads_from_it(
    mlflow: MlflowClient, mlflow_url: str, tmp_path: Path
) -> None:
    settings = InferenceSettings(
        mlflow_url=mlflow_url, state_dir=tmp_path / "state", device="cpu", drain_seconds=0
    )
    service = make_service(settings)
    async with (
        GrpcServer(service, settings, REFLECTED) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        predict = predict_pb2_grpc.PredictServiceStub(channel)
        replica = replica_pb2_grpc.ReplicaServiceStub(channel)
        request = pb.PredictRequest(model=MODEL, texts=["a great film"])
        first = (await predict.Predict(request)).model
        assert (first.version, first.batch_id) == ("1", "batch-1")
        await replica.Prepare(replica_pb2.PrepareRequest(model=MODEL, version="2"))
        await replica.Activate(replica_pb2.ActivateRequest(model=MODEL, version="2"))
        second = (await predict.Predict(request)).model
        assert (second.version, second.batch_id) == ("2", "batch-2")
        assert second.run_id
        assert second.run_id != first.run_id


async def test_a_model_that_was_deleted_and_made_anew_is_another_one(
    mlflow: MlflowClient, mlflow_url: str, tmp_path: Path
) -> None:
    settings = InferenceSettings(
        mlflow_url=mlflow_url, state_dir=tmp_path / "state", device="cpu", drain_seconds=0
    )
    async with (
        GrpcServer(make_service(settings), settings, REFLECTED) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        predict = predict_pb2_grpc.PredictServiceStub(channel)
        replica = replica_pb2_grpc.ReplicaServiceStub(channel)
        request = pb.PredictRequest(model=MODEL, texts=["a great film"])
        old = (await predict.Predict(request)).model
        mlflow.delete_registered_model(MODEL)
        await replica.Abort(replica_pb2.AbortRequest(model=MODEL, version="1", removed=True))
        with pytest.raises(aio.AioRpcError, match=f"there is no model {MODEL}"):
            await predict.Predict(request)
        mlflow.create_registered_model(MODEL)
        run = mlflow.create_run("0")
        files = write_model(tmp_path / "anew", 3, labels=("new_bad", "new_good"))
        mlflow.log_artifacts(run.info.run_id, str(files), "model")
        source = f"{run.info.artifact_uri}/model"
        made = mlflow.create_model_version(MODEL, source, run.info.run_id)
        assert made.version == "1"
        await replica.Prepare(
            replica_pb2.PrepareRequest(model=MODEL, version="1", source=made.source)
        )
        await replica.Activate(
            replica_pb2.ActivateRequest(model=MODEL, version="1", source=made.source)
        )
        answer = await predict.Predict(request)
        assert answer.predictions[0].label in ("new_bad", "new_good")
        assert answer.model.run_id == run.info.run_id != old.run_id
        # Models of other tests may be in this MLflow, and the replica serves what it finds there.
        slots = (await replica.GetState(replica_pb2.GetStateRequest())).slots
        found = [(slot.source, slot.run_id) for slot in slots if slot.model == MODEL]
        assert found == [(source, run.info.run_id)]
