"""A replica whose engine fails at once, behind a real Envoy: it costs its callers nothing."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import aio

from mesh.v1 import predict_pb2, predict_pb2_grpc
from tests.real_parts.steady_load import under_load
from tests.real_parts.waiting import until
from tests.twins.toy_mesh import ToyMesh, running_mesh

CLIENTS = 64
CALLS = 3000
# A replica that fails gets some calls after each health check, every second. Half of the calls
# would be its fair share; without outlier detection it gets nearly as many as the other answers.
MOST_AT_THE_FAILING_ONE = 0.4


@pytest.fixture(params=[True, False], ids=["http1", "http2"])
async def mesh(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[ToyMesh]:
    async with running_mesh(tmp_path, over_http1=request.param) as running:
        yield running


def ejections(mesh: ToyMesh) -> str:
    return f"cluster.{mesh.cluster}.outlier_detection.ejections_enforced_consecutive_5xx"


async def test_an_engine_that_fails_under_load_fails_no_call(mesh: ToyMesh) -> None:
    failing, other = mesh.replicas
    async with under_load(mesh.envoy.address, "reviews", CLIENTS) as load:
        failing.fails = True
        before = failing.calls, other.calls
        await load.more(CALLS)
        failed_there, answered = failing.calls - before[0], other.calls - before[1]
    assert load.failures == []
    assert answered >= CALLS - CLIENTS
    assert failed_there < MOST_AT_THE_FAILING_ONE * answered
    assert sum((await mesh.envoy.stats(f"^{ejections(mesh)}$")).values()) > 0


async def test_a_replica_whose_engine_works_again_gets_calls_again(mesh: ToyMesh) -> None:
    failing = mesh.replicas[0]
    async with under_load(mesh.envoy.address, "reviews", CLIENTS) as load:
        failing.fails = True
        await load.more(500)
        failing.fails = False
        before = failing.calls
        await until(lambda: failing.calls >= before + 500)
    assert load.failures == []


async def test_when_every_engine_fails_the_callers_hear_so_at_once(mesh: ToyMesh) -> None:
    for replica in mesh.replicas:
        replica.fails = True
    stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
    request = predict_pb2.PredictRequest(model="reviews", texts=["a"])
    for _ in range(40):
        with pytest.raises(aio.AioRpcError) as error:
            await stub.Predict(request, timeout=10)
        # Half of the replicas stay, so no caller is told that there is none.
        assert error.value.code() is grpc.StatusCode.INTERNAL


async def test_what_one_caller_sends_takes_no_replica_out_beside_others(mesh: ToyMesh) -> None:
    stub: Any = predict_pb2_grpc.PredictServiceStub(mesh.channel)
    unserved = predict_pb2.PredictRequest(model="broken", texts=["a"])
    nothing: Any = mesh.channel.unary_unary("/mesh.v1.PredictService/Nothing")
    async with under_load(mesh.envoy.address, "reviews") as load:
        for _ in range(100):
            errors = await asyncio.gather(
                stub.Predict(unserved, timeout=10),
                nothing(b"", timeout=10),
                stub.GetModel(predict_pb2.GetModelRequest(model="reviews"), timeout=10),
                return_exceptions=True,
            )
            assert [isinstance(error, aio.AioRpcError) for error in errors] == [True, True, False]
    assert load.failures == []
    assert (await mesh.envoy.stats(f"^{ejections(mesh)}$"))[ejections(mesh)] == 0
