"""Failures behind a real Envoy, as its clients notice them."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc, train_pb2, train_pb2_grpc
from service_kit.errors import FailedPrecondition, Unavailable
from tests.real_parts.waiting import until
from tests.twins.toy_mesh import ToyMesh, running_mesh
from tests.twins.toy_services import REPLICA, ToyService, stop_at_once, toy_server

CLIENTS = 32


@pytest.fixture(params=[True, False], ids=["http1", "http2"])
async def mesh(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ToyMesh]:
    async with running_mesh(tmp_path, over_http1=request.param) as running:
        yield running


async def test_a_replica_that_stops_under_load_fails_no_call(mesh: ToyMesh) -> None:
    stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
    request = predict_pb2.PredictRequest(model="reviews", texts=["a"])
    stop = asyncio.Event()

    async def client() -> int:
        answered = 0
        while not stop.is_set():
            await stub.Predict(request, timeout=10)
            answered += 1
        return answered

    clients = [asyncio.create_task(client()) for _ in range(CLIENTS)]
    await all_busy(mesh)
    await stop_at_once(mesh.servers[0])
    calls_before = mesh.replicas[1].calls
    await until(lambda: mesh.replicas[1].calls >= calls_before + 20 * CLIENTS)
    stop.set()
    assert sum(await asyncio.gather(*clients)) > 20 * CLIENTS


async def test_a_replica_that_comes_back_gets_calls_again(mesh: ToyMesh) -> None:
    server, servicer = mesh.servers[0], mesh.replicas[0]
    unary_port = cast(ToyService, server.service).unary_port
    await stop_at_once(mesh.servers[0])
    await mesh.envoy.wait_healthy(mesh.cluster, 1)
    async with toy_server(REPLICA, server.port, unary_port, predict=servicer):
        await mesh.envoy.wait_healthy(mesh.cluster, 2)
        before = servicer.calls
        for _ in range(64):
            await mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]})
        assert servicer.calls > before


async def test_calls_of_a_replica_that_hangs_are_answered_by_another(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, stalled_after_s=1) as mesh:
        mesh.replicas[0].hangs = True
        stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
        request = predict_pb2.PredictRequest(model="reviews", texts=["a"])
        answers = await asyncio.gather(*(stub.Predict(request, timeout=25) for _ in range(CLIENTS)))
        assert {answer.replica for answer in answers} == {"r2"}
        assert mesh.replicas[0].calls > 0
        counter = f"cluster.{mesh.cluster}.upstream_rq_active"
        # No call waits at that replica any more.
        async with asyncio.timeout(20):
            while (await mesh.envoy.stats(f"^{counter}$"))[counter]:
                await asyncio.sleep(0.01)


async def test_slow_work_is_not_done_twice(tmp_path: Path) -> None:
    async with running_mesh(tmp_path, stalled_after_s=1) as mesh:
        for replica in mesh.replicas:
            replica.takes_s = 3
        stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
        request = predict_pb2.PredictRequest(model="reviews", texts=["a"])
        calls = (stub.Predict(request, timeout=25) for _ in range(CLIENTS))
        over_http = mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]})
        response, *_ = await asyncio.gather(over_http, *calls)
        assert response.json()["predictions"][0]["label"] == "1"
        assert sum(replica.calls for replica in mesh.replicas) == CLIENTS + 1


async def test_without_a_replica_the_answer_is_unavailable(mesh: ToyMesh) -> None:
    for server in mesh.servers:
        await stop_at_once(server)
    for cluster in {"champion", mesh.cluster}:
        await mesh.envoy.wait_healthy(cluster, 0)
    response = await mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]})
    assert response.status_code == 503
    assert response.json() == {"code": 14, "message": "no healthy upstream", "details": []}
    health = await mesh.http.get("/healthz")
    assert health.status_code == 503
    stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
    with pytest.raises(aio.AioRpcError) as error:
        await stub.Predict(predict_pb2.PredictRequest(model="reviews", texts=["a"]), timeout=5)
    assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error.value.details() == "no healthy upstream"


async def test_unavailable_is_tried_again_and_other_errors_are_not(mesh: ToyMesh) -> None:
    stub: Any = train_pb2_grpc.TrainServiceStub(mesh.channel)
    request = train_pb2.TrainRequest(model="reviews", request_id="a")
    mesh.train.failures = [Unavailable("PostgreSQL is away")]
    assert (await stub.Train(request, timeout=5)).id == "1"
    assert mesh.train.calls == 2
    mesh.train.failures = [FailedPrecondition("no")]
    with pytest.raises(aio.AioRpcError):
        await stub.Train(request, timeout=5)
    assert mesh.train.calls == 3


async def test_errors_that_answers_carry_never_take_every_replica_out(mesh: ToyMesh) -> None:
    for _ in range(40):
        broken = await mesh.http.post("/v1/models/broken:predict", json={"texts": ["a"]})
        assert broken.json()["message"] == "this replica says so"
        assert (
            await mesh.http.post("/v1/models/reviews:predict", json={"texts": ["a"]})
        ).status_code == 200


async def all_busy(mesh: ToyMesh) -> None:
    await until(lambda: min(replica.calls for replica in mesh.replicas) >= 5 * CLIENTS)
