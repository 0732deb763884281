"""Every public service behind a real Envoy, to be sent anything. Nothing is trained."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
from grpc import aio
from prometheus_client import REGISTRY

from control_plane.service import ControlPlane
from control_plane.settings import ControlPlaneSettings
from control_plane.topology import Address, MeshTopology, Split
from inference_svc.main import REFLECTED
from inference_svc.service import InferenceService
from mesh.v1 import train_pb2_grpc
from service_kit.database import Database, apply_schema
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.model_registry.registry import Registry
from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import free_port
from tests.real_parts.trigger_service import settings as trigger_settings
from tests.twins.replica import (
    FakeRegistry,
    SteeredEngine,
    replica_settings,
    write_steered_version,
)
from training_svc.jobs import job_store as store
from training_svc.jobs.caller_actions import CallerActions
from training_svc.jobs.job_changes import JobChanges
from training_svc.jobs.job_store import PostgresJobs
from training_svc.servicer import TrainServicer
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.service import TriggerService

NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
# Envoy's answer while it takes every host of a service for dead.
AWAY = "no healthy upstream"
# Names of Envoy's clusters.
BEHIND_ENVOY = (
    *("champion", "champion-http", "champion-unary"),
    *("training", "trigger", "control-plane"),
)
MODEL = "reviews"
# A model with a traffic split: Envoy reads the messages itself to learn which model they name.
SPLIT_MODEL = "films"


class QueuedTrainings:
    """The training service without its runner: it takes jobs, which stay queued."""

    names: Sequence[str] = ("mesh.v1.TrainService",)

    def __init__(self, database_url: str, mlflow_url: str) -> None:
        self._database = Database(database_url, "trainings of a test")
        self._registry = Registry(mlflow_url)
        self._changes = JobChanges()
        self._actions = CallerActions(
            PostgresJobs(self._database),
            self._changes,
            self._registry,
            lambda: None,
            lambda job_id: None,
            max_examples=1000,
        )

    def register(self, server: aio.Server) -> None:
        train_pb2_grpc.add_TrainServiceServicer_to_server(TrainServicer(self._actions), server)

    async def startup(self) -> None:
        await apply_schema(self._database, "training jobs", store.SCHEMA)

    async def drain(self) -> None:
        self._changes.close()

    async def shutdown(self) -> None:
        await self._registry.close()
        await self._database.close()


@dataclass
class FuzzedMesh:
    """A running Envoy, before services that run in this process, and clients of it."""

    envoy: RunningEnvoy
    http: httpx.AsyncClient
    channel: aio.Channel

    async def healthy(self) -> None:
        """Wait until Envoy sends calls to every service.

        The services share a process with the test. When the test holds the process up for three
        seconds, as the making of random data may on a busy machine, Envoy takes them for dead.
        """
        for cluster in BEHIND_ENVOY:
            await self.envoy.wait_healthy(cluster, 1)

    def memory_bytes(self) -> int:
        """Resident memory of Envoy and of this process, in which every service runs."""
        mine = psutil.Process()
        envoys = [child for child in mine.children() if child.name() == "envoy"]
        return int(sum(process.memory_info().rss for process in (mine, *envoys)))

    def queued_texts(self) -> float | None:
        """Texts that wait or run on the replica, by its metric; None: there is no such metric."""
        return REGISTRY.get_sample_value("mesh_queued_texts")


@asynccontextmanager
async def fuzzed_mesh(
    folder: Path, postgres_url: str, mlflow_url: str
) -> AsyncIterator[FuzzedMesh]:
    """A replica, the trigger and training services and the control plane, behind Envoy."""
    registry = FakeRegistry()
    files = write_steered_version(folder / "1")
    for model in (MODEL, SPLIT_MODEL):
        registry.add(model, "1", files, CHAMPION, SERVING)
    replica = replica_settings(folder)
    inference = InferenceService(replica, SteeredEngine(), lambda: registry)
    data = trigger_settings(postgres_url, mlflow_url=mlflow_url, state_dir=folder / "spools")
    others = ServiceSettings(drain_seconds=0, grace_seconds=1)
    async with AsyncExitStack() as stack:

        async def running(server: GrpcServer) -> Address:
            return Address.parse((await stack.enter_async_context(server)).address)

        replica_at = await running(GrpcServer(inference, replica, REFLECTED))
        control = ControlPlaneSettings(
            port=free_port(),
            replicas=(str(replica_at),),
            mlflow_url=mlflow_url,
            database_url=postgres_url,
            drain_seconds=0,
            grace_seconds=0,
        )
        topology = MeshTopology(
            (replica_at,),
            replicas_http=(Address("127.0.0.1", replica.http_port),),
            replicas_unary=(Address("127.0.0.1", replica.unary_port),),
            training=await running(GrpcServer(QueuedTrainings(postgres_url, mlflow_url), others)),
            trigger=await running(GrpcServer(TriggerService(data, MemoryAirflow()), data)),
            control_plane=await running(GrpcServer(ControlPlane(control), control)),
            splits=((SPLIT_MODEL, Split(50, 50)),),
            port=free_port(),
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(folder, topology))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=envoy.url, timeout=30))
        channel = await stack.enter_async_context(aio.insecure_channel(envoy.address, NO_LIMIT))
        mesh = FuzzedMesh(envoy, http, channel)
        await mesh.healthy()
        yield mesh
