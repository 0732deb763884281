"""Small servicers behind the mesh's real contract, for tests of Envoy in front of them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from grpc import aio

from inference import open_inference_pb2_grpc
from mesh.v1 import (
    data_pb2,
    data_pb2_grpc,
    predict_pb2,
    predict_pb2_grpc,
    reload_pb2,
    reload_pb2_grpc,
    train_pb2,
    train_pb2_grpc,
)
from service_kit.errors import Aborted, MeshError, NotFound, Unavailable
from service_kit.identities.identity import Identity
from service_kit.limits import check_model_name, check_texts
from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings
from service_kit.unary_over_http1.server import UnaryServer
from service_kit.unary_over_http1.unary_method import UnaryMethod

Context = aio.ServicerContext[Any, Any]

# The type stubs ask for every method; these servicers have only the methods that tests call.
PredictBase: Any = predict_pb2_grpc.PredictServiceServicer
TrainBase: Any = train_pb2_grpc.TrainServiceServicer
ReloadBase: Any = reload_pb2_grpc.ReloadServiceServicer
OpenInferenceBase: Any = open_inference_pb2_grpc.GRPCInferenceServiceServicer
DataBase: Any = data_pb2_grpc.DataServiceServicer

DETAIL_BYTES = 12_000
PREDICT = "/mesh.v1.PredictService/Predict"
REPLICA = ("mesh.v1.PredictService",)
PUBLIC = (
    "mesh.v1.PredictService",
    "mesh.v1.TrainService",
    "mesh.v1.ReloadService",
    "mesh.v1.DataService",
)


class EngineBroke(MeshError):
    """Ends a call with INTERNAL, as the replica's EngineFailure does."""


class ToyPredict(PredictBase):  # type: ignore[misc]
    """Labels every text with its length, and keeps the metadata and deadline of the latest call."""

    def __init__(self, replica: str) -> None:
        self.replica = replica
        self.calls = 0
        self.hangs = False
        """Its calls are not answered, and it gets on with none of them."""

        self.takes_s = 0.0
        self.fails = False
        self.seconds_left: float | None = None
        self.stream_seconds_left: float | None = None
        self.metadata: dict[str, str] = {}

    async def Predict(
        self, request: predict_pb2.PredictRequest, context: Context
    ) -> predict_pb2.PredictResponse:
        self.calls += 1
        self.seconds_left = context.time_remaining()
        self.metadata = {k: str(v) for k, v in context.invocation_metadata() or ()}
        check_model_name(request.model)
        check_texts(request.texts)
        if request.model == "unknown":
            raise NotFound("no model 'unknown' is registered")
        if request.model == "broken":
            raise Unavailable("this replica says so")
        if self.fails or request.model == "poison":
            raise EngineBroke("the engine broke")
        if self.hangs or request.model == "slow":
            await asyncio.sleep(30)
        if self.takes_s:
            await asyncio.sleep(self.takes_s)
        predictions = [
            predict_pb2.Prediction(label=str(len(text)), score=0.5) for text in request.texts
        ]
        return predict_pb2.PredictResponse(predictions=predictions, replica=self.replica)

    async def PredictStream(
        self, request_iterator: AsyncIterator[predict_pb2.PredictRequest], context: Context
    ) -> AsyncIterator[predict_pb2.PredictStreamResponse]:
        self.stream_seconds_left = context.time_remaining()
        async for request in request_iterator:
            yield predict_pb2.PredictStreamResponse(
                id=request.id, response=predict_pb2.PredictResponse(replica=self.replica)
            )

    async def GetModel(
        self, request: predict_pb2.GetModelRequest, context: Context
    ) -> predict_pb2.Model:
        return predict_pb2.Model(name=check_model_name(request.model), version="1")


class ToyTrain(TrainBase):  # type: ignore[misc]
    """One job, which goes on when `step` is set."""

    def __init__(self) -> None:
        self.step = asyncio.Event()
        self.failures: list[MeshError] = []
        self.calls = 0

    async def Train(
        self, request: train_pb2.TrainRequest, context: Context
    ) -> train_pb2.TrainingJob:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return train_pb2.TrainingJob(id="1", state=train_pb2.TRAINING_STATE_QUEUED)

    async def GetTraining(
        self, request: train_pb2.GetTrainingRequest, context: Context
    ) -> train_pb2.TrainingJob:
        if request.id == "unknown":
            raise NotFound("there is no training 'unknown'")
        return train_pb2.TrainingJob(id=request.id, state=train_pb2.TRAINING_STATE_RUNNING)

    async def WatchTraining(
        self, request: train_pb2.WatchTrainingRequest, context: Context
    ) -> AsyncIterator[train_pb2.TrainingJob]:
        yield train_pb2.TrainingJob(id=request.id, state=train_pb2.TRAINING_STATE_RUNNING)
        await self.step.wait()
        yield train_pb2.TrainingJob(id=request.id, state=train_pb2.TRAINING_STATE_SUCCEEDED)


class ToyReload(ReloadBase):  # type: ignore[misc]
    """Never succeeds; the error of the model `wordy` has DETAIL_BYTES of details."""

    async def Reload(
        self, request: reload_pb2.ReloadRequest, context: Context
    ) -> reload_pb2.ReloadResponse:
        if request.model == "wordy":
            raise Aborted("failed", "PREPARE_FAILED", step="a" * DETAIL_BYTES)
        raise Aborted(
            "replica r1 failed at warm-up", "PREPARE_FAILED", replica="r1", step="warm-up"
        )


class ToyData(DataBase):  # type: ignore[misc]
    """Counts the examples that it is given."""

    async def AddExamples(
        self, request: data_pb2.AddExamplesRequest, context: Context
    ) -> data_pb2.AddExamplesResponse:
        return data_pb2.AddExamplesResponse(model=request.model, added=len(request.examples))

    async def ImportExamples(
        self, request_iterator: AsyncIterator[data_pb2.ImportExamplesRequest], context: Context
    ) -> data_pb2.ImportExamplesResponse:
        rows = 0
        async for request in request_iterator:
            rows += len(request.examples)
        return data_pb2.ImportExamplesResponse(rows=data_pb2.SplitCounts(train=rows))


class ToyOpenInference(OpenInferenceBase):  # type: ignore[misc]
    """Has no method, so only what comes before the methods answers."""


class ToyService:
    """A service made of any of these servicers; `predict` also answers over HTTP/1.1."""

    def __init__(
        self,
        names: Sequence[str],
        unary_port: int = 0,
        identity: Path | None = None,
        **servicers: Any,
    ) -> None:
        self.names = names
        self._identity = identity
        self.unary_port = unary_port
        self._servicers = servicers
        self._unary: UnaryServer | None = None

    def register(self, server: aio.Server) -> None:
        add: dict[str, Any] = {
            "predict": predict_pb2_grpc.add_PredictServiceServicer_to_server,
            "train": train_pb2_grpc.add_TrainServiceServicer_to_server,
            "reload": reload_pb2_grpc.add_ReloadServiceServicer_to_server,
            "open_inference": open_inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server,
            "data": data_pb2_grpc.add_DataServiceServicer_to_server,
        }
        for name, servicer in self._servicers.items():
            add[name](servicer, server)

    async def startup(self) -> None:
        if "predict" not in self._servicers:
            return
        answer, decode = self._servicers["predict"].Predict, predict_pb2.PredictRequest.FromString
        self._unary = UnaryServer({PREDICT: UnaryMethod.of(PREDICT, answer, decode)})
        self.unary_port = await self._unary.listen(
            "127.0.0.1", self.unary_port, Identity.of(self._identity)
        )
        predict = self._servicers["predict"]
        self._unary.slow_calls.progressed = lambda _: not predict.hangs
        self._unary.serving = True

    async def shutdown(self) -> None:
        if self._unary is not None:
            await self._unary.close(grace_s=0)


def toy_server(
    names: Sequence[str],
    port: int = 0,
    unary_port: int = 0,
    identity: Path | None = None,
    **servicers: Any,
) -> GrpcServer:
    """Return a server of these servicers, to be entered; it stops at once."""
    settings = ServiceSettings(
        port=port, drain_seconds=0, grace_seconds=0, identity_folder=identity
    )
    return GrpcServer(ToyService(names, unary_port, identity, **servicers), settings, PUBLIC)


async def stop_at_once(server: GrpcServer) -> None:
    """Stop without telling Envoy: calls in flight are reset."""
    await server.service.shutdown()
    await server._server.stop(0)
