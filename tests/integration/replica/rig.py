"""A replica over real gRPC, with a tiny real model and a registry in memory."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_health.v1 import health_pb2_grpc

from inference_svc.engines.choice import create_engine
from inference_svc.main import REFLECTED
from inference_svc.model.model_files import GOLDEN_FILE
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2 as pb
from mesh.v1 import predict_pb2_grpc, replica_pb2, replica_pb2_grpc
from service_kit.interceptor import STATUS_DETAILS_KEY
from service_kit.server import GrpcServer
from tests.integration.replica.breakable import BreakableEngine, Breaks
from tests.twins.replica import LABELS, FakeRegistry, write_golden, write_model


class Client:
    """The stubs of one replica."""

    def __init__(self, channel: aio.Channel) -> None:
        self.predict = predict_pb2_grpc.PredictServiceStub(channel)
        self.replica = replica_pb2_grpc.ReplicaServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)

    async def ask(self, *texts: str, model: str = "reviews", **fields: Any) -> pb.PredictResponse:
        return await self.predict.Predict(pb.PredictRequest(model=model, texts=texts, **fields))

    async def reload(self, version: str, model: str = "reviews") -> replica_pb2.ActivateResponse:
        await self.replica.Prepare(replica_pb2.PrepareRequest(model=model, version=version))
        return await self.replica.Activate(
            replica_pb2.ActivateRequest(model=model, version=version)
        )

    async def state(self) -> replica_pb2.GetStateResponse:
        return await self.replica.GetState(replica_pb2.GetStateRequest())


class Replica:
    """A replica whose server a test may start and stop."""

    def __init__(
        self, state_dir: Path, registry: FakeRegistry, breaks: Breaks | None = None
    ) -> None:
        self.settings = InferenceSettings(
            replica_id="replica-1",
            state_dir=state_dir,
            device="cpu",
            drain_seconds=0,
            grace_seconds=5,
            max_stream_requests=4,
        )
        self.registry = registry
        self.breaks = breaks
        self.exit_codes: list[int] = []
        self.server: GrpcServer | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Client]:
        engine = create_engine("auto", "cpu", "auto", threads=1)
        if self.breaks is not None:
            engine = BreakableEngine(engine, self.breaks)
        service = InferenceService(
            self.settings, engine, lambda: self.registry, self.exit_codes.append
        )
        async with GrpcServer(service, self.settings, REFLECTED) as server:
            self.server = server
            async with aio.insecure_channel(server.address) as channel:
                yield Client(channel)


async def failure(call: Any) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as failed:
        await call
    return failed.value


def error_info(error: aio.AioRpcError) -> error_details_pb2.ErrorInfo:
    details = dict(error.trailing_metadata() or ())[STATUS_DETAILS_KEY]
    info = error_details_pb2.ErrorInfo()
    for detail in Status.FromString(details).details:
        if detail.Unpack(info):
            return info
    raise AssertionError("no ErrorInfo")


def broken(tmp_path: Path, fault: str) -> Path:
    folder = write_model(tmp_path / "broken", seed=1)
    if fault == "no golden set":
        (folder / GOLDEN_FILE).unlink()
    elif fault == "other answers":
        entry = {"text": "a great film", "scores": [0.5, 0.5]}
        both = [entry | {"label": label} for label in LABELS]
        write_golden(folder, LABELS, both)
    elif fault == "three labels":
        write_golden(folder, ("a", "b", "c"), [])
    else:
        (folder / "model" / "model.safetensors").write_bytes(b"nothing")
    return folder
