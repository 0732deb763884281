"""A real Envoy, MLflow, PostgreSQL and control plane in front of toy replicas."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from control_plane.service import ControlPlane
from control_plane.settings import ControlPlaneSettings
from control_plane.topology import Address, MeshTopology
from service_kit.model_registry.promotion import Promotions
from service_kit.model_registry.records import CHALLENGER
from service_kit.model_registry.registry import Registry
from service_kit.server import GrpcServer
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.mlflow_server import create_versions, forget_models
from tests.real_parts.postgres import free_port
from tests.real_parts.waiting import until_async
from tests.twins.toy_jobs_and_rows import JobsAndRows, jobs_and_rows_server
from tests.twins.toy_replica import SteeredReplica, replica_server
from tests.twins.toy_services import stop_at_once


@dataclass
class SteeredMesh:
    """The running parts."""

    http: httpx.AsyncClient
    replicas: list[SteeredReplica]
    servers: list[GrpcServer]
    registry: Registry
    promotions: Promotions
    mlflow_url: str
    envoy: RunningEnvoy
    settings: ControlPlaneSettings
    control: GrpcServer
    services: JobsAndRows
    killed: list[asyncio.Task[None]] = field(default_factory=list)

    async def new_version(self, model: str) -> str:
        """Register a version; return its number."""
        await self.registry.ensure_model(model)
        (version,) = await create_versions(self.mlflow_url, model, 1)
        return version

    async def promoted(self, model: str, *expected: str, serve: bool = False) -> str:
        """Register and promote a version over `expected`; `serve`: the fleet is to serve it."""
        version = await self.new_version(model)
        champion = expected[0] if expected else ""
        await self.promotions.promote(model, version, champion, serve=serve)
        return version

    async def served(self, model: str) -> str:
        """Register, promote and reload a version."""
        version = await self.promoted(model)
        await self.post(f"/models/{model}:reload", {})
        return version

    async def challenged(self, model: str) -> str:
        """Register a version as the Challenger."""
        version = await self.new_version(model)
        await self.registry.set_alias(model, CHALLENGER, version)
        return version

    async def aliases(self, model: str) -> dict[str, str]:
        """Return the aliases of a model."""
        registered = await self.registry.find_model(model)
        assert registered
        return dict(registered.aliases)

    async def post(self, path: str, body: dict[str, object]) -> httpx.Response:
        """POST; raise HTTPStatusError unless it succeeds."""
        return (await self.http.post(path, json=body)).raise_for_status()

    async def kill(self, number: int) -> None:
        """Stop a replica while it answers a call of the control plane; its calls are reset."""
        self.killed.append(asyncio.create_task(stop_at_once(self.servers[number])))
        # The call that does this never ends.
        await asyncio.Event().wait()

    async def restart(self) -> None:
        """End the control plane and start another one at the same address."""
        await self.stop()
        await self.start()

    async def stop(self) -> None:
        """End the control plane."""
        await self.control.__aexit__()

    async def start(self) -> None:
        """Start another control plane at the same address."""
        self.control = GrpcServer(ControlPlane(self.settings), self.settings)
        await self.control.__aenter__()

        async def answers() -> bool:
            return (await self.http.get("/fleet")).is_success

        await until_async(answers)

    async def split(self, model: str, champion: int, challenger: int, mirror: int = 0) -> None:
        """Set the traffic of a model."""
        body = {"championWeight": champion, "challengerWeight": challenger, "mirrorPercent": mirror}
        (await self.http.put(f"/models/{model}/traffic", json=body)).raise_for_status()


@asynccontextmanager
async def steered_mesh(
    folder: Path,
    mlflow_url: str,
    postgres_url: str,
    size: int = 2,
    signing_key: Path | None = None,
) -> AsyncIterator[SteeredMesh]:
    """Put `size` toy replicas behind an Envoy that gets everything from the control plane.

    It begins without any model: while models are brought to the replicas, the set of replicas that
    get traffic changes.
    """
    await forget_models(mlflow_url)
    replicas = [SteeredReplica(f"r{number}") for number in range(1, size + 1)]
    async with AsyncExitStack() as stack:
        services = JobsAndRows()
        others = await stack.enter_async_context(jobs_and_rows_server(services))
        servers = [await stack.enter_async_context(replica_server(r)) for r in replicas]
        settings = ControlPlaneSettings(
            port=free_port(),
            replicas=tuple(server.address for server in servers),
            training=others.address,
            trigger=others.address,
            envoy_port=free_port(),
            mlflow_url=mlflow_url,
            database_url=postgres_url,
            upkeep_seconds=0.1,
            signing_key=signing_key,
            drain_seconds=0,
            grace_seconds=0,
        )
        control = GrpcServer(ControlPlane(settings), settings)
        await control.__aenter__()
        topology = MeshTopology(
            (),
            training=Address("127.0.0.1", 1),
            trigger=Address("127.0.0.1", 1),
            control_plane=Address.parse(control.address),
            port=settings.envoy_port,
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(folder, topology, dynamic=True))
        await envoy.wait_healthy("champion", size)
        http = httpx.AsyncClient(base_url=f"{envoy.url}/v1", timeout=30)
        registry = Registry(mlflow_url)
        stack.push_async_callback(registry.close)
        await stack.enter_async_context(http)
        mesh = SteeredMesh(
            http,
            replicas,
            servers,
            registry,
            Promotions(postgres_url, registry),
            mlflow_url,
            envoy,
            settings,
            control,
            services,
        )
        try:
            yield mesh
        finally:
            await mesh.control.__aexit__()
