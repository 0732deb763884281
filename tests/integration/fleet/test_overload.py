"""More predictions than the fleet takes: a real Envoy refuses them and asks no replica."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from control_plane.topology import CALLS_AT_LEAST, CALLS_PER_REPLICA, Address, Limits
from control_plane.xds import DiscoveryServer, build_snapshot
from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.real_parts.envoy import RunningEnvoy, running_envoy
from tests.real_parts.postgres import free_port
from tests.real_parts.waiting import until
from tests.twins.toy_mesh import ToyMesh, running_mesh
from tests.unit.control_plane.topologies import TOPOLOGY

ROOM = 4


@asynccontextmanager
async def full_mesh(folder: Path) -> AsyncIterator[ToyMesh]:
    """A mesh that is full of calls, which last for half a minute."""
    limits = Limits(calls_per_replica=ROOM // 2, calls_at_least=1)
    async with running_mesh(folder, limits=limits) as mesh:
        calls = [asyncio.create_task(predict(mesh, "slow")) for _ in range(ROOM)]
        await until(lambda: sum(replica.calls for replica in mesh.replicas) >= ROOM)
        try:
            yield mesh
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)


async def predict(
    mesh: ToyMesh, model: str = "reviews", request_id: str = "any"
) -> predict_pb2.PredictResponse:
    stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
    request = predict_pb2.PredictRequest(model=model, texts=["a"])
    metadata = (("x-request-id", request_id),)
    answer: predict_pb2.PredictResponse = await stub.Predict(request, timeout=60, metadata=metadata)
    return answer


async def test_refused_over_grpc_with_a_retry_delay(tmp_path: Path) -> None:
    async with full_mesh(tmp_path) as mesh:
        with pytest.raises(aio.AioRpcError) as refused:
            await predict(mesh)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "as much to do as it can" in str(refused.value.details())
        status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
        delay = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(delay)
        assert 0 < delay.retry_delay.ToTimedelta().total_seconds() <= 1
        # Neither Envoy nor the client's library has tried again.
        assert sum(replica.calls for replica in mesh.replicas) == ROOM


async def test_refused_over_http_in_the_contracts_form(tmp_path: Path) -> None:
    async with full_mesh(tmp_path) as mesh:
        response = await mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]})
        assert response.status_code == 429
        assert response.headers["retry-after"] == "1"
        assert response.json()["code"] == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        assert "as much to do as it can" in response.json()["message"]


async def test_refused_over_grpc_web_as_unavailable_with_the_same_details(tmp_path: Path) -> None:
    async with full_mesh(tmp_path) as mesh:
        response = await mesh.http.post(
            "/mesh.v1.PredictService/Predict",
            content=b"\0\0\0\0\0",
            headers={"content-type": "application/grpc-web+proto"},
        )
        assert response.status_code == 429
        assert response.headers["grpc-status"] == str(grpc.StatusCode.UNAVAILABLE.value[0])
        assert response.headers["grpc-status-details-bin"]


async def test_a_full_mesh_still_answers_calls_that_are_no_predictions(tmp_path: Path) -> None:
    async with full_mesh(tmp_path) as mesh:
        assert (await mesh.http.get("/v1/models/reviews")).status_code == 200
        assert (await mesh.http.get("/healthz")).status_code == 200
        health: Any = health_pb2_grpc.HealthStub(mesh.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
        requests = iter([predict_pb2.PredictRequest(model="reviews", id="1")])
        assert [item.id async for item in stub.PredictStream(requests)] == ["1"]


async def test_cancelled_calls_make_room_at_once(tmp_path: Path) -> None:
    async with full_mesh(tmp_path) as mesh:
        call = asyncio.create_task(predict(mesh, "slow"))
        with pytest.raises(aio.AioRpcError):
            await call
    async with running_mesh(tmp_path, limits=Limits(1, calls_at_least=1)) as mesh:
        call = asyncio.create_task(predict(mesh, "slow"))
        await until(lambda: any(replica.calls for replica in mesh.replicas))
        call.cancel()
        await asyncio.wait([call])
        name = f"cluster.{mesh.cluster}.upstream_rq_active"
        async with asyncio.timeout(60):
            while (await mesh.envoy.stats(f"^{name}$"))[name]:
                await asyncio.sleep(0.01)
        assert (await predict(mesh)).predictions[0].label == "1"


async def test_few_refusals_are_logged(tmp_path: Path) -> None:
    async with full_mesh(tmp_path) as mesh:
        for _ in range(200):
            with pytest.raises(aio.AioRpcError):
                await predict(mesh, request_id="refused")
        await mesh.http.get("/v1/models/reviews", headers={"x-request-id": "last"})
        await mesh.envoy.logged(["last"])
        lines = mesh.envoy.access_log.read_text().splitlines()
        assert sum('"refused"' in line for line in lines) < 50


async def test_the_limit_follows_the_fleet(tmp_path: Path) -> None:
    discovery, server = DiscoveryServer(), aio.server()
    discovery.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    topology = replace(
        TOPOLOGY,
        control_plane=Address("127.0.0.1", port),
        port=free_port(),
        admin_port=free_port(),
    )
    discovery.publish(build_snapshot(topology))
    try:
        async with running_envoy(tmp_path, topology, dynamic=True) as envoy:
            await limit_becomes(envoy, CALLS_AT_LEAST)
            addresses = tuple(Address("127.0.0.1", 1001 + number) for number in range(3))
            discovery.publish(build_snapshot(replace(topology, replicas=addresses)))
            await limit_becomes(envoy, 3 * CALLS_PER_REPLICA)
    finally:
        discovery.close()
        await server.stop(0)


async def limit_becomes(envoy: RunningEnvoy, calls: int) -> None:
    """Wait until Envoy allows this many calls in flight."""
    name = "circuit_breakers.champion.default.max_requests"
    limit = ""
    async with asyncio.timeout(60), httpx.AsyncClient() as http:
        while limit != str(calls):
            await asyncio.sleep(0.05)
            entries = (await http.get(f"{envoy.admin_url}/runtime")).json()["entries"]
            limit = entries.get(name, {}).get("final_value", "")
