"""A replica that starts: without MLflow, without models, and with a model that is broken."""

import asyncio
import threading
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from mesh.v1 import reload_pb2
from service_kit.model_registry.artifacts import Choose
from service_kit.model_registry.records import SERVING
from tests.integration.replica.rig import Replica, broken, failure
from tests.twins.replica import FakeRegistry, until

SERVING_STATE = reload_pb2.MODEL_STATE_SERVING


async def test_replica_starts_from_its_cache_and_catches_up_when_mlflow_is_back(
    replica: Replica, registry: FakeRegistry
) -> None:
    async with replica.running() as client:
        await client.reload("2")
    registry.away = True
    async with replica.running() as client:
        assert (await client.ask("a")).model.version == "2"
        registry.models["reviews"][SERVING] = "3"
        registry.away = False

        async def caught_up() -> bool:
            return (await client.ask("a")).model.version == "3"

        await until(caught_up)


async def test_model_that_cannot_be_loaded_does_not_stop_the_others(
    replica: Replica, registry: FakeRegistry, tmp_path: Path, models: dict[str, Path]
) -> None:
    registry.add("broken", "1", broken(tmp_path, "no weights"), SERVING)
    async with replica.running() as client:
        assert (await client.ask("a")).model.version == "1"
        error = await failure(client.ask("a", model="broken"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        registry.folders[("broken", "1")] = models["2"]

        async def loaded() -> bool:
            slots = (await client.state()).slots
            return [slot.state for slot in slots] == [SERVING_STATE] * 2

        await until(loaded)
        assert (await client.ask("a", model="broken")).model.version == "1"


async def test_replica_without_models_serves(tmp_path: Path) -> None:
    async with Replica(tmp_path, FakeRegistry()).running() as client:
        health = await client.health.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        error = await failure(client.ask("a"))
        assert error.details() == "there is no model reviews; served here: none"


class SlowRegistry(FakeRegistry):
    """A registry whose downloads of `slow` do not end before `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    async def download(
        self, name: str, version: str, target: Path, choose: Choose | None = None
    ) -> None:
        while name == "slow" and not self.go.is_set():
            await asyncio.sleep(0.01)
        await super().download(name, version, target, choose)


async def test_a_download_that_does_not_end_does_not_keep_the_replica_from_serving(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    registry = SlowRegistry()
    for name in ("reviews", "slow"):
        registry.add(name, "1", models["1"], SERVING)
    replica = Replica(tmp_path, registry)
    replica.settings.restore_timeout_s = 3
    async with replica.running() as client:
        health = await client.health.Check(health_pb2.HealthCheckRequest())
        assert health.status == health_pb2.HealthCheckResponse.SERVING
        assert (await client.ask("a")).model.version == "1"
        error = await failure(client.ask("a", model="slow"))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        registry.go.set()

        async def loaded() -> bool:
            return len((await client.state()).slots) == 2

        await until(loaded)
