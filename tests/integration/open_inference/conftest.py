"""A replica that speaks the Open Inference Protocol, behind a real Envoy."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio
from grpc import aio

from control_plane.topology import Address, MeshTopology, Split
from inference import open_inference_pb2_grpc
from inference_svc.main import REFLECTED
from inference_svc.service import InferenceService
from mesh.v1 import reload_pb2, replica_pb2, replica_pb2_grpc
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.server import GrpcServer
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import free_port
from tests.twins.replica import (
    FakeRegistry,
    SteeredEngine,
    replica_settings,
    write_steered_version,
)

# All calls for `films` go to the Challenger, half of those for `plays`, and copies of all calls for
# `songs`.
SPLITS = (("films", Split(0, 100)), ("plays", Split(50, 50)), ("songs", Split(100, 0, 100)))
MODELS = ("reviews", *(model for model, _ in SPLITS))


@dataclass
class OneReplica:
    """A replica that serves a few models, and the Envoy before it."""

    server: GrpcServer
    envoy: RunningEnvoy
    http: httpx.AsyncClient
    direct: httpx.AsyncClient
    stub: Any
    unary_port: int


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OneReplica]:
    folder = tmp_path_factory.mktemp("open-inference")
    registry = FakeRegistry()
    for version in ("1", "2"):
        files = write_steered_version(folder / version)
        for model in MODELS:
            registry.add(model, version, files)
    for model in MODELS:
        registry.models[model] = {CHAMPION: "1", SERVING: "1"}
    registry.models["news"] = {}
    settings = replica_settings(folder)
    service = InferenceService(settings, SteeredEngine(), lambda: registry)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(GrpcServer(service, settings, REFLECTED))
        address = Address.parse(server.address)
        for model, _ in SPLITS:
            await serve_challenger(server.address, model, "2")
        topology = MeshTopology(
            (address,),
            training=Address("127.0.0.1", 1),
            trigger=Address("127.0.0.1", 1),
            control_plane=Address("127.0.0.1", 1),
            replicas_http=(Address("127.0.0.1", settings.http_port),),
            replicas_unary=(Address("127.0.0.1", settings.unary_port),),
            splits=SPLITS,
            port=free_port(),
            admin_port=free_port(),
        )
        envoy = await stack.enter_async_context(running_envoy(folder, topology))
        for cluster in ("champion-unary", "challenger-unary", "champion-http"):
            await envoy.wait_healthy(cluster, 1)
        through = httpx.AsyncClient(base_url=envoy.url, timeout=20)
        direct = httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.http_port}", timeout=20)
        for client in (through, direct):
            await stack.enter_async_context(client)
        channel = await stack.enter_async_context(aio.insecure_channel(envoy.address))
        stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        yield OneReplica(server, envoy, through, direct, stub, settings.unary_port)


async def serve_challenger(address: str, model: str, version: str) -> None:
    fields: dict[str, Any] = {
        "model": model,
        "version": version,
        "role": reload_pb2.MODEL_ROLE_CHALLENGER,
    }
    async with aio.insecure_channel(address) as channel:
        stub = replica_pb2_grpc.ReplicaServiceStub(channel)
        await stub.Prepare(replica_pb2.PrepareRequest(**fields))
        await stub.Activate(replica_pb2.ActivateRequest(**fields))
