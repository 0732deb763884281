"""A replica in its own process; SIGUSR1 holds its engine up, and SIGUSR2 lets it go on."""

import asyncio
import shutil
import signal
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.topology import Address
from inference_svc.engines.base import FloatArray, IntArray
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from mesh.v1 import predict_pb2, predict_pb2_grpc
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.server import run
from tests.real_parts.postgres import free_port
from tests.real_parts.service_process import start_module
from tests.twins.replica import (
    FakeRegistry,
    SteeredClassifier,
    SteeredEngine,
    write_steered_version,
)

MODEL = "reviews"
START_S = 60.0


@dataclass
class SteeredProcess:
    """A running process, and a channel to its replica."""

    process: asyncio.subprocess.Process
    channel: aio.Channel
    address: Address
    unary_address: Address

    async def predict(self, timeout_s: float | None = None) -> predict_pb2.PredictResponse:
        """Have one text classified."""
        stub: Any = predict_pb2_grpc.PredictServiceStub(self.channel)
        request = predict_pb2.PredictRequest(model=MODEL, texts=["a good film"])
        answer: predict_pb2.PredictResponse = await stub.Predict(request, timeout=timeout_s)
        return answer

    def hold(self) -> None:
        """Let no batch end from now on."""
        self.process.send_signal(signal.SIGUSR1)

    def let_go(self) -> None:
        """Let batches end."""
        self.process.send_signal(signal.SIGUSR2)

    def resident_mib(self) -> float:
        """Resident memory of the process."""
        return float(psutil.Process(self.process.pid).memory_info().rss / 2**20)


@asynccontextmanager
async def steered_process(
    folder: Path, drain_seconds: float = 0.0
) -> AsyncIterator[SteeredProcess]:
    """Run a replica that serves version 1 of MODEL."""
    port, unary_port = free_port(), free_port()
    environment = {
        "INFERENCE_PORT": str(port),
        "INFERENCE_UNARY_PORT": str(unary_port),
        "INFERENCE_REPLICA_ID": folder.name,
        "INFERENCE_STATE_DIR": str(folder / "state"),
        "INFERENCE_DRAIN_SECONDS": str(drain_seconds),
    }
    process = await start_module(
        *("tests.twins.steered_replica_process", str(folder)),
        environment=environment,
        log=folder / "replica.log",
    )
    try:
        async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            async with asyncio.timeout(START_S):
                await _serving(channel)
            at = (Address("127.0.0.1", port), Address("127.0.0.1", unary_port))
            yield SteeredProcess(process, channel, *at)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _serving(channel: aio.Channel) -> None:
    health: Any = health_pb2_grpc.HealthStub(channel)
    watch = health.Watch(health_pb2.HealthCheckRequest(), wait_for_ready=True)
    async for answer in watch:
        if answer.status == health_pb2.HealthCheckResponse.SERVING:
            watch.cancel()
            return


class _Classifier(SteeredClassifier):
    def __init__(self, go: threading.Event) -> None:
        super().__init__()
        self.go = go

    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        self.go.wait()
        return np.tile(np.array([[0.25, 0.75]], np.float32), (len(ids), 1))


class _Engine(SteeredEngine):
    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()
        self.go.set()

    def load(self, weights: Path, graph: Path | None = None) -> SteeredClassifier:
        return _Classifier(self.go)


def main() -> None:
    """Entry point."""
    engine, registry = _Engine(), FakeRegistry()
    signal.signal(signal.SIGUSR1, lambda *_: engine.go.clear())
    signal.signal(signal.SIGUSR2, lambda *_: engine.go.set())
    version = Path(sys.argv[1]) / "version"
    # It is there when the process was restarted.
    shutil.rmtree(version, ignore_errors=True)
    files = write_steered_version(version)
    registry.add(MODEL, "1", files, CHAMPION, SERVING)
    settings = InferenceSettings()
    run("inference", settings, lambda: InferenceService(settings, engine, lambda: registry))


if __name__ == "__main__":
    main()
