"""A real Envoy that asks for tokens, and gets keys and revoked ids from a control plane."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from grpc import aio

from control_plane.access.revoked_tokens import RevokedTokens
from control_plane.access.rules import AccessRules
from control_plane.access.token_watch import TokenWatch
from control_plane.topology import Address, MeshTopology
from control_plane.traffic.publisher import EnvoyPublisher
from control_plane.xds import DiscoveryServer
from inference_svc.main import REFLECTED
from inference_svc.service import InferenceService
from service_kit.database import Database
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.server import GrpcServer
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import execute, free_port
from tests.real_parts.tokens import SigningKey, jwks
from tests.twins.replica import (
    FakeRegistry,
    SteeredEngine,
    replica_settings,
    write_steered_version,
)
from tests.twins.toy_services import (
    REPLICA,
    ToyData,
    ToyOpenInference,
    ToyPredict,
    ToyReload,
    ToyTrain,
    toy_server,
)

TOKENS = """
CREATE SCHEMA mesh;
CREATE TABLE mesh.tokens (
    id text PRIMARY KEY, subject text, scopes text, models text, created_at timestamptz,
    expires_at timestamptz, revoked_at timestamptz)
"""


@dataclass
class GuardedMesh:
    """The running parts."""

    envoy: RunningEnvoy
    rules: AccessRules
    key: SigningKey
    keys_file: Path
    database_url: str
    replica: ToyPredict
    train: ToyTrain
    http: httpx.AsyncClient
    channel: aio.Channel

    def revoke(self, token_id: str) -> None:
        """Revoke a token, as `mesh token revoke` does."""
        execute(
            self.database_url,
            "INSERT INTO mesh.tokens (id, expires_at, revoked_at) "
            f"VALUES ('{token_id}', now() + interval '1 hour', now())",
        )


@asynccontextmanager
async def guarded_mesh(
    folder: Path,
    database_url: str,
    rules: AccessRules,
    training: str = "",
    trigger: str = "",
    host: str = "127.0.0.1",
) -> AsyncIterator[GuardedMesh]:
    """One toy service of each kind, and the HTTP port of a real replica, behind an Envoy that gets
    everything over ADS. The toys have the services' own interceptor, which checks the model.

    `training`, `trigger`: addresses of real services that stand in the toys' place. `host`: where
    Envoy listens.
    """
    replica, train, key = ToyPredict("r1"), ToyTrain(), SigningKey("first")
    keys_file = folder / "token-keys.json"
    keys_file.write_text(jwks(key))
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        predict = await enter(
            toy_server(REPLICA, predict=replica, open_inference=ToyOpenInference())
        )
        http_door = await enter(_replicas_http(folder))
        toy_training = await enter(toy_server(("mesh.v1.TrainService",), train=train))
        toy_trigger = await enter(toy_server(("mesh.v1.DataService",), data=ToyData()))
        reload = await enter(toy_server(("mesh.v1.ReloadService",), reload=ToyReload()))
        discovery, server = DiscoveryServer(), aio.server()
        discovery.register(server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0)
        stack.callback(discovery.close)
        topology = MeshTopology(
            (Address.parse(predict.address),),
            training=Address.parse(training or toy_training.address),
            trigger=Address.parse(trigger or toy_trigger.address),
            control_plane=Address.parse(reload.address),
            replicas_http=(http_door,),
            host=host,
            port=free_port(),
            admin_port=free_port(),
            access=rules,
        )
        publisher = EnvoyPublisher(discovery)
        publisher.publish(topology)
        database = Database(database_url, "tests", threads=1)
        stack.push_async_callback(database.close)
        watch = TokenWatch(keys_file, RevokedTokens(database, folder / "revoked"), publisher.use)
        watch.begin()
        task = asyncio.create_task(watch.run())
        stack.callback(task.cancel)
        at = Address("127.0.0.1", port)
        envoy = await enter(running_envoy(folder, topology, dynamic=True, control_plane=at))
        for cluster in ("champion", "champion-http"):
            await envoy.wait_healthy(cluster, 1)
        http = await enter(httpx.AsyncClient(base_url=envoy.url, timeout=20))
        channel = await enter(aio.insecure_channel(envoy.address))
        yield GuardedMesh(envoy, rules, key, keys_file, database_url, replica, train, http, channel)


@asynccontextmanager
async def _replicas_http(folder: Path) -> AsyncIterator[Address]:
    """A real replica that serves `reviews`; yield the address of its port for HTTP."""
    registry = FakeRegistry()
    registry.add("reviews", "1", write_steered_version(folder / "version"))
    registry.models["reviews"] = {CHAMPION: "1", SERVING: "1"}
    settings = replica_settings(folder)
    service = InferenceService(settings, SteeredEngine(), lambda: registry)
    async with GrpcServer(service, settings, REFLECTED):
        yield Address("127.0.0.1", settings.http_port)
