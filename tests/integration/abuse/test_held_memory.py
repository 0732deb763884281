"""Bodies that never end: Envoy's memory is bounded, and what takes it from others is reset."""

import asyncio
from pathlib import Path

import httpx
import psutil
import pytest

from control_plane.xds.routes import early_routes
from tests.integration.abuse.honest_clients import honest_clients
from tests.real_parts.held_streams import grpc_head, held_streams, json_head
from tests.real_parts.waiting import until
from tests.twins.toy_mesh import ToyMesh, running_mesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY_BYTES = 7_900_000
BODIES = 70
MIB = 1024 * 1024
# What the container of Envoy gets in Compose.
LIMIT_MIB = 512
PREDICT_JSON = "/v1/models/reviews:predict"
PREDICT_GRPC = "/mesh.v1.PredictService/Predict"
# The head of a gRPC message of BODY_BYTES more than ever come.
MESSAGE_HEAD = b"\0" + (2 * BODY_BYTES).to_bytes(4, "big")


def envoys_mib(mesh: ToyMesh) -> float:
    config = str(mesh.envoy.log.parent / "envoy.pb")
    for process in psutil.Process().children():
        if config in process.cmdline():
            return float(process.memory_info().rss) / MIB
    raise AssertionError("Envoy is no child of the tests")


@pytest.mark.parametrize("door", ["json", "grpc"])
async def test_bodies_that_never_end_leave_envoy_within_its_memory(
    mesh: ToyMesh, door: str
) -> None:
    most = 0.0
    async with (
        honest_clients(mesh.envoy) as honest,
        held_streams(mesh.envoy.address) as held,
    ):
        for _ in range(BODIES):
            if door == "json":
                held.start(json_head(mesh.envoy.address, PREDICT_JSON), more_bytes=BODY_BYTES)
            else:
                head = grpc_head(mesh.envoy.address, PREDICT_GRPC)
                held.start(head, MESSAGE_HEAD, BODY_BYTES)
        held.flush()
        # By now every byte has left that the mesh lets in, or the mesh has ended the stream.
        for _ in range(20):
            await honest.more(20)
            most = max(most, envoys_mib(mesh))
            if held.sent_all:
                break
        assert held.reset, "streams that hold much are reset"
    assert most < LIMIT_MIB, f"{most:.0f} MiB"


async def test_a_body_that_never_ends_takes_no_place_at_a_replica(mesh: ToyMesh) -> None:
    places = 150  # more than two replicas take at once
    async with (
        honest_clients(mesh.envoy) as honest,
        held_streams(mesh.envoy.address) as held,
    ):
        for _ in range(places):
            held.start(grpc_head(mesh.envoy.address, PREDICT_GRPC), MESSAGE_HEAD, 1_000)
        held.flush()
        await honest.more(200)
        assert len(held.open) == places


async def test_a_body_has_a_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_routes, "BODY_S", 1.0)
    async with (
        running_mesh(tmp_path) as mesh,
        honest_clients(mesh.envoy),
        held_streams(mesh.envoy.address) as held,
    ):
        stream = held.start(json_head(mesh.envoy.address, PREDICT_JSON), b'{"texts": [')
        held.flush()
        async with asyncio.timeout(20):
            await until(lambda: stream not in held.open)
        assert held.statuses[stream] == str(httpx.codes.REQUEST_TIMEOUT.value)


async def test_a_connection_has_so_many_streams(mesh: ToyMesh) -> None:
    async with honest_clients(mesh.envoy), held_streams(mesh.envoy.address) as held:
        await until(lambda: held.most_streams <= 256)
