"""A mesh of scripted answers; the model's name chooses the script."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from mesh.v1 import (
    data_pb2,
    data_pb2_grpc,
    reload_pb2,
    reload_pb2_grpc,
    train_pb2,
    train_pb2_grpc,
)

POLLS_UNTIL_THE_END = 2
DEVICE_S = 5.0


class StubMesh(
    data_pb2_grpc.DataServiceServicer,
    train_pb2_grpc.TrainServiceServicer,
    reload_pb2_grpc.ReloadServiceServicer,
):
    """Model "kept" keeps its Champion, "broken" fails to train, "flaky" fails its first attempt,
    "onelabel" fails for good, "paused" pauses its canary, "endless" never ends its training,
    "rowless" has no rows. The first GetTraining of "away" gets UNAVAILABLE. Every other model is
    promoted.

    Models "queue…" share one device, which trains each of them for DEVICE_S seconds;
    `trained_at` and `reloaded_at` say when each was trained and reloaded, in monotonic seconds.
    """

    def __init__(self) -> None:
        self.jobs: dict[str, train_pb2.TrainingJob] = {}
        self.polls: dict[str, int] = {}
        self.reloads: list[reload_pb2.ReloadRequest] = []
        self.canaries: dict[str, reload_pb2.Canary] = {}
        self.calls: list[Any] = []
        self.troubles: list[data_pb2.ModelTrouble] = []
        self.queued_polls = 0  # looks at a job for which it stays in the queue
        self.running_looks = 0  # looks at a canary after which it still runs
        self.trained_at: dict[str, float] = {}
        self.reloaded_at: dict[str, float] = {}
        self._device_free_at = 0.0
        self.replicas: Callable[[], list[reload_pb2.Replica]] = list

    def GetDataset(
        self, request: data_pb2.GetDatasetRequest, context: grpc.ServicerContext
    ) -> data_pb2.Dataset:
        train = 0 if request.model == "rowless" else 80
        return data_pb2.Dataset(
            model=request.model, rows=data_pb2.SplitCounts(train=train, test=20)
        )

    def DeleteExamples(
        self, request: data_pb2.DeleteExamplesRequest, context: grpc.ServicerContext
    ) -> data_pb2.DeleteExamplesResponse:
        self.calls.append(request)
        return data_pb2.DeleteExamplesResponse(model=request.model, deleted=len(request.texts))

    def ListBatches(
        self, request: data_pb2.ListBatchesRequest, context: grpc.ServicerContext
    ) -> data_pb2.ListBatchesResponse:
        self.calls.append(request)
        return data_pb2.ListBatchesResponse(troubles=self.troubles)

    def Retry(
        self, request: data_pb2.RetryRequest, context: grpc.ServicerContext
    ) -> data_pb2.Batch:
        self.calls.append(request)
        name = request.batch_id or f"retrain__{request.model}__1"
        return data_pb2.Batch(
            id=name, model=request.model, state=data_pb2.BATCH_STATE_SEALED, retries=1
        )

    def Train(
        self, request: train_pb2.TrainRequest, context: grpc.ServicerContext
    ) -> train_pb2.TrainingJob:
        self.calls.append(request)
        job = self.jobs.get(request.request_id)
        if job is None or job.state == train_pb2.TRAINING_STATE_FAILED:
            job = train_pb2.TrainingJob(
                id=f"job-of-{request.request_id}",
                request_id=request.request_id,
                model=request.model,
                state=train_pb2.TRAINING_STATE_QUEUED,
                attempt=(job.attempt if job else 0) + 1,
            )
            self.jobs[request.request_id] = job
            self.polls[request.request_id] = 0
            if request.model.startswith("queue"):
                start = max(time.monotonic(), self._device_free_at)
                self._device_free_at = self.trained_at[request.model] = start + DEVICE_S
        return job

    def CancelTraining(
        self, request: train_pb2.CancelTrainingRequest, context: grpc.ServicerContext
    ) -> train_pb2.TrainingJob:
        self.calls.append(request)
        for job in self.jobs.values():
            if request.id in (job.id, job.request_id):
                job.state = train_pb2.TRAINING_STATE_CANCELLED
                return job
        context.abort(grpc.StatusCode.NOT_FOUND, "no such training")
        raise AssertionError

    def GetTraining(
        self, request: train_pb2.GetTrainingRequest, context: grpc.ServicerContext
    ) -> train_pb2.TrainingJob:
        job = self.jobs[request.id]
        self.polls[request.id] += 1
        if job.model == "away" and self.polls[request.id] == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "the training service starts again")
        if job.state == train_pb2.TRAINING_STATE_CANCELLED:
            return job
        if self.polls[request.id] <= self.queued_polls:
            return job
        job.state = train_pb2.TRAINING_STATE_RUNNING
        if self._has_ended(job, self.polls[request.id] - self.queued_polls):
            _end(job)
        return job

    def _has_ended(self, job: train_pb2.TrainingJob, polls: int) -> bool:
        if job.model in self.trained_at:
            return time.monotonic() >= self.trained_at[job.model]
        return job.model != "endless" and polls >= POLLS_UNTIL_THE_END

    def Reload(
        self, request: reload_pb2.ReloadRequest, context: grpc.ServicerContext
    ) -> reload_pb2.ReloadResponse:
        self.reloads.append(request)
        self.reloaded_at.setdefault(request.model, time.monotonic())
        return reload_pb2.ReloadResponse(model=request.model, from_version="1", to_version="2")

    def GetFleet(
        self, request: reload_pb2.GetFleetRequest, context: grpc.ServicerContext
    ) -> reload_pb2.Fleet:
        models = [
            reload_pb2.FleetModel(name=name, champion_version="1")
            for name in ("reviews", "paused", "keptcanary")
        ]
        models.append(reload_pb2.FleetModel(name="new"))
        return reload_pb2.Fleet(models=models, replicas=self.replicas())

    def RemoveModel(
        self, request: reload_pb2.RemoveModelRequest, context: grpc.ServicerContext
    ) -> reload_pb2.RemoveModelResponse:
        self.calls.append(request)
        return reload_pb2.RemoveModelResponse(
            model=request.model,
            versions=["1", "2"],
            rows_removed=request.with_rows,
            replicas_away=["r2"],
        )

    def StartCanary(
        self, request: reload_pb2.StartCanaryRequest, context: grpc.ServicerContext
    ) -> reload_pb2.Canary:
        self.calls.append(request)
        return self.canaries.setdefault(
            request.model,
            reload_pb2.Canary(
                model=request.model,
                version="2",
                champion_version="1",
                state=reload_pb2.CANARY_STATE_RUNNING,
                steps=request.steps,
                reason="step 1 of 2 is under way",
            ),
        )

    def GetCanary(
        self, request: reload_pb2.GetCanaryRequest, context: grpc.ServicerContext
    ) -> reload_pb2.Canary:
        canary = self.canaries[request.model]
        self.running_looks -= 1
        if self.running_looks >= 0:
            return canary
        if request.model == "paused":
            canary.state, canary.reason = reload_pb2.CANARY_STATE_PAUSED, "too few to judge by"
        else:
            canary.state, canary.reason = reload_pb2.CANARY_STATE_PROMOTED, "better"
        return canary


def _end(job: train_pb2.TrainingJob) -> None:
    if job.model == "onelabel":
        job.state = train_pb2.TRAINING_STATE_FAILED
        job.error = "a classifier needs training rows of at least two labels"
        job.lasting_error = True
        return
    if job.model == "broken" or (job.model == "flaky" and job.attempt == 1):
        job.state = train_pb2.TRAINING_STATE_FAILED
        job.error = "the loss is not a number"
        return
    job.state = train_pb2.TRAINING_STATE_SUCCEEDED
    job.version = "2"
    job.decision.CopyFrom(
        train_pb2.Decision(
            outcome=train_pb2.DECISION_OUTCOME_KEPT
            if job.model.startswith("kept")
            else train_pb2.DECISION_OUTCOME_PROMOTED,
            reason="not better on the held-out rows" if job.model == "kept" else "better",
            champion_version="1",
            champion_accuracy=0.8,
            challenger_accuracy=0.9,
        )
    )


@contextmanager
def running_stub_mesh() -> Iterator[tuple[StubMesh, str]]:
    """Run a StubMesh; yields it and its address."""
    stub = StubMesh()  # type: ignore[abstract]  # grpc itself answers UNIMPLEMENTED for the rest
    server = grpc.server(ThreadPoolExecutor(8))
    data_pb2_grpc.add_DataServiceServicer_to_server(stub, server)
    train_pb2_grpc.add_TrainServiceServicer_to_server(stub, server)
    reload_pb2_grpc.add_ReloadServiceServicer_to_server(stub, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield stub, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()
