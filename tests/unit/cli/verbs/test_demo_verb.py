"""`mesh demo` against a twin of Docker and a loop of scripted answers."""

import csv
import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from typer.testing import CliRunner

from mesh.v1 import (
    data_pb2,
    data_pb2_grpc,
    predict_pb2,
    predict_pb2_grpc,
    train_pb2,
    train_pb2_grpc,
)
from mesh_cli.errors import CliError
from mesh_cli.main import app
from mesh_cli.verbs import demo_verb
from tests.unit.cli.docker_twin import TwinDocker


class Loop(
    data_pb2_grpc.DataServiceServicer,
    train_pb2_grpc.TrainServiceServicer,
    predict_pb2_grpc.PredictServiceServicer,
):
    """Each batch succeeds at once: the import makes version 1, the next batch version 2."""

    def __init__(self) -> None:
        self.batches: list[data_pb2.Batch] = []
        self.imported = 0
        self.predictions = 0
        self.failures = 0

    def turn(self, reason: data_pb2.BatchReason) -> data_pb2.Batch:
        batch = data_pb2.Batch(
            id=f"retrain__reviews__{len(self.batches) + 1}",
            model="reviews",
            reason=reason,
            state=data_pb2.BATCH_STATE_SUCCEEDED,
        )
        self.batches.insert(0, batch)
        return batch

    def GetDataset(
        self, request: data_pb2.GetDatasetRequest, context: grpc.ServicerContext
    ) -> data_pb2.Dataset:
        return context.abort(grpc.StatusCode.NOT_FOUND, "no such model")

    def ImportExamples(
        self,
        request_iterator: Iterator[data_pb2.ImportExamplesRequest],
        context: grpc.ServicerContext,
    ) -> data_pb2.ImportExamplesResponse:
        self.imported = sum(len(request.examples) for request in request_iterator)
        batch = self.turn(data_pb2.BATCH_REASON_IMPORT)
        return data_pb2.ImportExamplesResponse(model="reviews", batch=batch, created=True)

    def ListBatches(
        self, request: data_pb2.ListBatchesRequest, context: grpc.ServicerContext
    ) -> data_pb2.ListBatchesResponse:
        return data_pb2.ListBatchesResponse(batches=self.batches)

    def GetTraining(
        self, request: train_pb2.GetTrainingRequest, context: grpc.ServicerContext
    ) -> train_pb2.TrainingJob:
        return train_pb2.TrainingJob(
            id=request.id,
            version=request.id.rpartition("_")[2],
            state=train_pb2.TRAINING_STATE_SUCCEEDED,
            decision=train_pb2.Decision(
                outcome=train_pb2.DECISION_OUTCOME_PROMOTED,
                champion_accuracy=0.75,
                challenger_accuracy=0.875,
            ),
        )

    def Predict(
        self, request: predict_pb2.PredictRequest, context: grpc.ServicerContext
    ) -> predict_pb2.PredictResponse:
        self.predictions += 1
        # The demo asks once itself before its thread sends the requests that it counts.
        if 1 < self.predictions <= 1 + self.failures:
            context.abort(grpc.StatusCode.INTERNAL, "broken")
        return predict_pb2.PredictResponse(
            predictions=[predict_pb2.Prediction(label="positive", score=0.9)],
            model=predict_pb2.ServedModel(name="reviews", version=str(len(self.batches))),
        )


@pytest.fixture
def loop(docker: TwinDocker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loop]:
    monkeypatch.setattr(demo_verb, "PAUSE_S", 0.001)
    loop = Loop()  # type: ignore[abstract]  # grpc itself answers UNIMPLEMENTED for the rest
    server = grpc.server(ThreadPoolExecutor(4))
    data_pb2_grpc.add_DataServiceServicer_to_server(loop, server)
    train_pb2_grpc.add_TrainServiceServicer_to_server(loop, server)
    predict_pb2_grpc.add_PredictServiceServicer_to_server(loop, server)
    docker.ports["envoy"] = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}\n"

    def insert(command: str) -> None:
        if command.startswith("compose exec"):
            loop.turn(data_pb2.BATCH_REASON_QUIET)

    docker.on_command = insert
    server.start()
    yield loop
    server.stop(0).wait()


def test_the_demo_runs_against_containers(docker: TwinDocker, loop: Loop) -> None:
    result = CliRunner().invoke(app, ["--context", "compose", "demo", "--json"])
    assert result.exit_code == 0, (result.output, result.exception)
    measured = json.loads(result.stdout)
    assert measured["model"] == "reviews"
    assert (measured["first_version"], measured["second_version"]) == ("1", "2")
    assert (measured["first_accuracy"], measured["second_accuracy"]) == (0.75, 0.875)
    assert measured["answers_by_version"].keys() - {"1"} == {"2"}
    assert measured["requests"] == sum(measured["answers_by_version"].values())
    assert measured["failed"] == 0
    assert measured["urls"]["mesh"] == f"http://{docker.ports['envoy'].strip()}"
    assert loop.imported > 100
    inserted = list(csv.reader(io.StringIO(docker.stdin)))
    assert len(inserted) > 100
    assert {len(row) for row in inserted} == {2}


def test_the_demo_starts_what_is_not_up(docker: TwinDocker, loop: Loop) -> None:
    address = docker.ports.pop("envoy")
    insert = docker.on_command

    def start(command: str) -> None:
        insert(command)
        if command.startswith("compose up"):
            docker.ports["envoy"] = address

    docker.on_command = start
    result = CliRunner().invoke(app, ["--context", "compose", "demo"])
    assert result.exit_code == 0, (result.output, result.exception)
    for words in ("before", "after", "0.875", "failed: 0", "docker compose down", "psql -U"):
        assert words in result.stdout


def test_a_refused_insert_ends_the_demo(docker: TwinDocker, loop: Loop) -> None:
    docker.failure = {"compose exec": "ERROR:  the disk is full"}
    result = CliRunner().invoke(app, ["--context", "compose", "demo"])
    assert isinstance(result.exception, CliError)
    assert "the disk is full" in str(result.exception)


def test_a_failed_request_fails_the_demo(docker: TwinDocker, loop: Loop) -> None:
    loop.failures = 1
    result = CliRunner().invoke(app, ["--context", "compose", "demo", "--json"])
    assert isinstance(result.exception, CliError)
    assert "1 requests failed" in str(result.exception)


@pytest.mark.parametrize("was_up", [True, False])
def test_an_interrupted_demo_stops_only_a_mesh_that_it_started(
    docker: TwinDocker, loop: Loop, was_up: bool
) -> None:
    address = docker.ports["envoy"]
    if not was_up:
        docker.ports.pop("envoy")
    commands: list[str] = []

    def watch(command: str) -> None:
        commands.append(command)
        if command.startswith("compose up"):
            docker.ports["envoy"] = address
        if command.startswith("compose exec"):
            raise KeyboardInterrupt

    docker.on_command = watch
    result = CliRunner().invoke(app, ["--context", "compose", "demo"])
    assert result.exit_code == 130
    assert any(command.startswith("compose down") for command in commands) != was_up
