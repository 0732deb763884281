"""gRPC through one port of a real Envoy."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from mesh.v1 import (
    data_pb2,
    data_pb2_grpc,
    predict_pb2,
    reload_pb2,
    reload_pb2_grpc,
)
from tests.integration.envoy.door_checks import PREDICT, predict_request, predict_stub
from tests.twins.toy_mesh import ToyMesh
from tests.twins.toy_services import PUBLIC

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_grpc_reaches_a_replica(mesh: ToyMesh) -> None:
    answer = await predict_stub(mesh).Predict(predict_request("reviews", "a", "bb"), timeout=5)
    assert [prediction.label for prediction in answer.predictions] == ["1", "2"]


async def test_calls_of_one_connection_go_to_every_replica(mesh: ToyMesh) -> None:
    answers = await asyncio.gather(
        *(predict_stub(mesh).Predict(predict_request(), timeout=5) for _ in range(64))
    )
    assert {answer.replica for answer in answers} == {"r1", "r2"}


async def test_a_grpc_client_gets_envoys_error_in_plain_words(mesh: ToyMesh) -> None:
    call: Any = mesh.channel.unary_unary("/mesh.v1.ReplicaService/GetState")
    with pytest.raises(aio.AioRpcError) as error:
        await call(b"", timeout=5)
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert error.value.details() == "there is no such method"


async def test_a_large_grpc_message_gets_the_services_answer(mesh: ToyMesh) -> None:
    texts = ["a" * 32_000] * 655
    with pytest.raises(aio.AioRpcError) as error:
        await predict_stub(mesh).Predict(predict_request("reviews", *texts), timeout=20)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "8,388,608" in (error.value.details() or "")


async def test_a_clients_deadline_reaches_the_replica(mesh: ToyMesh) -> None:
    answer = await predict_stub(mesh).Predict(predict_request(), timeout=20)
    left = seconds_left(mesh, answer.replica)
    assert 5 < left < 20.5  # rounded up by Envoy


async def test_a_long_deadline_is_cut_to_the_limit_of_the_method(mesh: ToyMesh) -> None:
    answer = await predict_stub(mesh).Predict(predict_request(), timeout=3600)
    assert 25 < seconds_left(mesh, answer.replica) < 31
    response = await mesh.http.post(PREDICT, json={"texts": ["a"]})
    assert 25 < seconds_left(mesh, response.json()["replica"]) < 31


async def test_a_streams_deadline_is_its_own(mesh: ToyMesh) -> None:
    call = predict_stub(mesh).PredictStream(timeout=7200)
    await call.write(predict_pb2.PredictRequest(id="1"))
    assert (await call.read()).id == "1"
    # Long deadlines travel in whole minutes or so.
    assert any(7000 < (r.stream_seconds_left or 0) < 7400 for r in mesh.replicas)
    await call.done_writing()
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_cannot_choose_the_role(mesh: ToyMesh) -> None:
    metadata = (("x-mesh-role", "challenger"), ("x-mesh-key", "k"))
    answer = await predict_stub(mesh).Predict(predict_request(), timeout=5, metadata=metadata)
    seen = next(r for r in mesh.replicas if r.replica == answer.replica).metadata
    assert "x-mesh-role" not in seen
    assert seen["x-mesh-key"] == "k"


async def test_an_import_streams_through(mesh: ToyMesh) -> None:
    async def pieces() -> AsyncIterator[data_pb2.ImportExamplesRequest]:
        for _ in range(20):
            examples = [data_pb2.Example(text="a" * 1000, label="x")] * 1000
            yield data_pb2.ImportExamplesRequest(examples=examples)

    stub: Any = data_pb2_grpc.DataServiceStub(mesh.channel)
    assert (await stub.ImportExamples(pieces(), timeout=20)).rows.train == 20_000


async def test_health_comes_from_the_replicas(mesh: ToyMesh) -> None:
    stub: Any = health_pb2_grpc.HealthStub(mesh.channel)
    check = health_pb2.HealthCheckRequest(service="mesh.v1.PredictService")
    answer = await stub.Check(check, timeout=5)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    assert (await mesh.http.get("/healthz")).status_code == 200


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_names_every_public_service(mesh: ToyMesh, version: str) -> None:
    call = mesh.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=5)
    answers = [answer async for answer in call]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert set(PUBLIC) <= listed


async def test_reload_is_answered_over_grpc_with_details(mesh: ToyMesh) -> None:
    stub: Any = reload_pb2_grpc.ReloadServiceStub(mesh.channel)
    with pytest.raises(aio.AioRpcError) as error:
        await stub.Reload(reload_pb2.ReloadRequest(model="reviews"), timeout=5)
    assert error.value.code() is grpc.StatusCode.ABORTED
    assert "grpc-status-details-bin" in dict(error.value.trailing_metadata() or ())


def seconds_left(mesh: ToyMesh, replica: str) -> float:
    left = next(r for r in mesh.replicas if r.replica == replica).seconds_left
    assert left is not None
    return left
