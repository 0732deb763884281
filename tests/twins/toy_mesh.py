"""A real Envoy in front of toy services: `async with running_mesh(folder) as mesh: …`."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import httpx
from grpc import aio

from control_plane.topology import STALLED_AFTER_S, Address, Limits, MeshTopology
from control_plane.xds.clusters.part_tls import naming_files
from service_kit.identities.names import CONTROL_PLANE, ENVOY, INFERENCE, TRAINING, TRIGGER
from service_kit.server import GrpcServer
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import free_port
from tests.twins.toy_services import (
    REPLICA,
    ToyData,
    ToyPredict,
    ToyReload,
    ToyService,
    ToyTrain,
    toy_server,
)

NO_LIMIT = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


@dataclass
class ToyMesh:
    """The running parts."""

    envoy: RunningEnvoy
    replicas: list[ToyPredict]
    servers: list[GrpcServer]
    train: ToyTrain
    training: GrpcServer
    cluster: str
    """Name of the cluster to which Envoy sends predictions."""

    upstreams: set[str]
    """Addresses of its endpoints, host:port."""

    http: httpx.AsyncClient
    channel: aio.Channel


@asynccontextmanager
async def running_mesh(
    folder: Path,
    origins: tuple[str, ...] = (),
    limits: Limits | None = None,
    over_http1: bool = True,
    stalled_after_s: float = STALLED_AFTER_S,
    certificates: tuple[str, ...] = (),
    hosts: tuple[str, ...] = (),
    published_on: str = "",
    identities: Path | None = None,
) -> AsyncIterator[ToyMesh]:
    """Two replicas and one of each other service, behind Envoy.

    `identities`: a folder with the identity of each part; without it they speak in plain text.
    `over_http1`: unary calls reach the replicas over HTTP/1.1, as they reach inference_svc.
    """
    replicas, train = [ToyPredict("r1"), ToyPredict("r2")], ToyTrain()
    naming = _naming(folder, identities) if identities else ""

    def own(part: str) -> Path | None:
        return identities / part if identities else None

    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                toy_server(REPLICA, identity=own(INFERENCE), predict=replica)
            )
            for replica in replicas
        ]
        others = [
            await stack.enter_async_context(server)
            for server in (
                toy_server(("mesh.v1.TrainService",), identity=own(TRAINING), train=train),
                toy_server(("mesh.v1.DataService",), identity=own(TRIGGER), data=ToyData()),
                toy_server(
                    ("mesh.v1.ReloadService",), identity=own(CONTROL_PLANE), reload=ToyReload()
                ),
            )
        ]
        replicas_at = tuple(Address.parse(server.address) for server in servers)
        unary_at = tuple(map(unary_address, servers))
        topology = MeshTopology(
            replicas_at,
            training=Address.parse(others[0].address),
            trigger=Address.parse(others[1].address),
            control_plane=Address.parse(others[2].address),
            port=free_port(),
            admin_port=free_port(),
            replicas_unary=unary_at if over_http1 else (),
            allowed_origins=origins,
            allowed_hosts=hosts,
            published_on=published_on,
            limits=limits or Limits(),
            stalled_after_s=stalled_after_s,
            certificates=certificates,
            identity=naming,
        )
        envoy = await stack.enter_async_context(running_envoy(folder, topology))
        cluster = "champion-unary" if over_http1 else "champion"
        for name in {"champion", cluster}:
            await envoy.wait_healthy(name, len(replicas))
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=envoy.url, timeout=20))
        channel = await stack.enter_async_context(aio.insecure_channel(envoy.address, NO_LIMIT))
        upstreams = {str(address) for address in (unary_at if over_http1 else replicas_at)}
        yield ToyMesh(envoy, replicas, servers, train, others[0], cluster, upstreams, http, channel)


def _naming(folder: Path, identities: Path) -> str:
    """Write the files that tell Envoy where its identity is; return their folder."""
    naming = folder / "naming"
    naming.mkdir()
    for name, content in naming_files(str(identities / ENVOY)).items():
        (naming / name).write_bytes(content)
    return str(naming)


def unary_address(server: GrpcServer) -> Address:
    """Return the address at which a toy replica takes unary calls over HTTP/1.1."""
    return Address("127.0.0.1", cast(ToyService, server.service).unary_port)
