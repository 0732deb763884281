"""Real processes that prove to each other who they are, behind a real Envoy."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from grpc import aio

from control_plane.render import write_atomically
from control_plane.topology import Address, MeshTopology
from control_plane.xds.clusters.part_tls import naming_files
from mesh.v1 import predict_pb2, predict_pb2_grpc
from service_kit.identities.grpc_tls import channel
from service_kit.identities.identity import Identity
from service_kit.identities.issuing import Issuer
from service_kit.identities.names import CONTROL_PLANE, INFERENCE, TRAINING, TRIGGER
from service_kit.probe import is_serving
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import free_port
from tests.real_parts.service_process import start_module
from tests.real_parts.waiting import until_async

MODEL = "reviews"
# Paths behind which the control plane, the trigger service and the training service answer.
PATHS = {"/v1/fleet": 200, "/v1/batches": 200, f"/v1/models/{MODEL}/trainings": 404}
_QUICK = {"DRAIN_SECONDS": "0", "GRACE_SECONDS": "2"}


@dataclass
class Started:
    """The process of a part, and how it was started."""

    part: str
    module: tuple[str, ...]
    environment: Mapping[str, str]
    address: str
    log: Path
    process: asyncio.subprocess.Process

    async def restart(self) -> None:
        """Kill the process and start it again at the same address."""
        self.process.kill()
        await self.process.wait()
        self.process = await start_module(*self.module, environment=self.environment, log=self.log)


@dataclass
class ProvenMesh:
    """The running parts, and the folder of their identities."""

    identities: Path
    envoy: RunningEnvoy
    http: httpx.AsyncClient
    parts: dict[str, Started] = field(default_factory=dict)

    def identity(self, part: str) -> Identity:
        """The identity that a part has now."""
        return Identity(self.identities / part)

    def renew(self, days: float) -> None:
        """Give every part another certificate."""
        Issuer(self.identities, days).renew(now=True)

    @asynccontextmanager
    async def as_part(self, part: str, to: str) -> AsyncIterator[aio.Channel]:
        """A channel to a part, as another part opens it."""
        opened = channel(self.parts[to].address, to, self.identity(part).current())
        async with opened:
            yield opened

    async def serving(self, part: str) -> None:
        """Wait until a part says SERVING to its own health check."""
        started = self.parts[part]

        async def is_so() -> bool:
            assert started.process.returncode is None, started.log.read_text()
            return await asyncio.to_thread(is_serving, started.address, self.identity(part))

        await until_async(is_so)

    async def predict(self) -> predict_pb2.PredictResponse:
        """Have one text classified by way of Envoy, over gRPC."""
        async with aio.insecure_channel(self.envoy.address) as to_envoy:
            stub: Any = predict_pb2_grpc.PredictServiceStub(to_envoy)
            request = predict_pb2.PredictRequest(model=MODEL, texts=["good"])
            answer: predict_pb2.PredictResponse = await stub.Predict(request, timeout=20)
            return answer


@asynccontextmanager
async def proven_mesh(
    folder: Path, mlflow_url: str, postgres_url: str, days: float = 1.0
) -> AsyncIterator[ProvenMesh]:
    """One process of each part. A certificate is good for `days` days."""
    identities, naming = folder / "identities", folder / "naming"
    Issuer(identities, days).renew()
    naming.mkdir()
    for name, content in naming_files(str(identities / "envoy")).items():
        write_atomically(naming / name, content)
    ports = {part: free_port() for part in (INFERENCE, TRAINING, TRIGGER, CONTROL_PLANE)}
    at = {part: f"127.0.0.1:{port}" for part, port in ports.items()}
    topology = MeshTopology(
        (),
        training=Address.parse(at[TRAINING]),
        trigger=Address.parse(at[TRIGGER]),
        control_plane=Address.parse(at[CONTROL_PLANE]),
        port=free_port(),
        admin_port=free_port(),
        identity=str(naming),
    )
    (folder / "password").write_text('{"admin": "nobody asks"}')
    stores = {"MLFLOW_URL": mlflow_url, "DATABASE_URL": postgres_url}
    own: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
        INFERENCE: (
            "INFERENCE",
            ("tests.twins.steered_replica_process", str(folder)),
            {
                "REPLICA_ID": "r1",
                "STATE_DIR": str(folder / "replica"),
                "UNARY_PORT": str(free_port()),
                "HTTP_PORT": str(free_port()),
            },
        ),
        TRAINING: (
            *("TRAINING", ("training_svc.main",)),
            {**stores, "STATE_DIR": str(folder / "training")},
        ),
        TRIGGER: (
            *("TRIGGER", ("trigger_svc.main",)),
            {
                **stores,
                "AIRFLOW_URL": "http://127.0.0.1:9",
                "AIRFLOW_PASSWORD_FILE": str(folder / "password"),
            },
        ),
        CONTROL_PLANE: (
            *("CONTROL", ("control_plane.main",)),
            {
                **stores,
                "REPLICAS": at[INFERENCE],
                "TRAINING": at[TRAINING],
                "TRIGGER": at[TRIGGER],
                "ENVOY_PORT": str(topology.port),
                "ENVOY_IDENTITY": str(naming),
                "UPKEEP_SECONDS": "0.1",
            },
        ),
    }
    parts: dict[str, Started] = {}
    async with AsyncExitStack() as stack:
        for part, (prefix, module, settings) in own.items():
            settings = {**_QUICK, **settings, "PORT": str(ports[part])}
            environment = {f"{prefix}_{name}": value for name, value in settings.items()}
            environment["MESH_IDENTITY_FOLDER"] = str(identities / part)
            log = folder / f"{part}.log"
            process = await start_module(*module, environment=environment, log=log)
            parts[part] = Started(part, module, environment, at[part], log, process)
            stack.push_async_callback(_end, parts[part])
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{topology.port}", timeout=20)
        )
        envoy = await stack.enter_async_context(running_envoy(folder, topology, dynamic=True))
        mesh = ProvenMesh(identities, envoy, http, parts)
        for part in parts:
            await mesh.serving(part)
        for cluster in ("champion", "champion-unary", "champion-http", "training", "trigger"):
            await envoy.wait_healthy(cluster, 1)
        yield mesh


async def _end(started: Started) -> None:
    if started.process.returncode is None:
        started.process.kill()
    await started.process.wait()
