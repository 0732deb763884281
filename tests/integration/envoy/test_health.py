"""grpc.health.v1 through Envoy: each public service tells its own health."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.twins.toy_mesh import ToyMesh, running_mesh
from tests.twins.toy_services import PUBLIC

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
WAIT_S = 60.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ToyMesh]:
    async with running_mesh(tmp_path_factory.mktemp("health")) as running:
        for cluster in ("training", "trigger", "control-plane"):
            await running.envoy.wait_healthy(cluster, 1)
        yield running


@pytest.fixture
def stub(mesh: ToyMesh) -> Any:
    return health_pb2_grpc.HealthStub(mesh.channel)


def about(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize("service", ["", *PUBLIC])
async def test_every_public_service_is_known(stub: Any, service: str) -> None:
    assert (await stub.Check(about(service), timeout=WAIT_S)).status == SERVING
    watch = stub.Watch(about(service))
    async with asyncio.timeout(WAIT_S):
        assert (await watch.read()).status == SERVING
    watch.cancel()


@pytest.mark.parametrize(
    "service", ["mesh.v1.Nothing", "mesh.v1.trainservice", "mesh.v1.TrainService ", "ü", "x" * 5000]
)
async def test_any_other_name_is_not_found(stub: Any, service: str) -> None:
    with pytest.raises(aio.AioRpcError) as failed:
        await stub.Check(about(service), timeout=WAIT_S)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    assert "there are mesh.v1.PredictService" in (failed.value.details() or "")


async def test_a_service_that_ends_is_told_and_the_others_go_on(mesh: ToyMesh, stub: Any) -> None:
    # The last test of the file: the training service drains.
    watch = stub.Watch(about("mesh.v1.TrainService"))
    async with asyncio.timeout(WAIT_S):
        assert (await watch.read()).status == SERVING
        await mesh.training.drain()
        assert (await watch.read()).status == NOT_SERVING
    watch.cancel()
    await mesh.envoy.wait_healthy("training", 0)
    with pytest.raises(aio.AioRpcError) as failed:
        await stub.Check(about("mesh.v1.TrainService"), timeout=WAIT_S)
    assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    for service in ("", "mesh.v1.PredictService", "mesh.v1.DataService", "mesh.v1.ReloadService"):
        assert (await stub.Check(about(service), timeout=WAIT_S)).status == SERVING
