"""What a GrpcServer adds to every service: errors, health, reflection, draining."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from mesh.v1 import predict_pb2, predict_pb2_grpc
from service_kit.errors import Exhausted
from service_kit.interceptor import STATUS_DETAILS_KEY
from service_kit.limits import MAX_HEADER_BYTES, check_texts
from service_kit.probe import is_serving
from service_kit.server import GrpcServer
from service_kit.settings import ServiceSettings

PREDICT = "/mesh.v1.PredictService/Predict"


class _Predict(predict_pb2_grpc.PredictServiceServicer):
    async def Predict(
        self,
        request: predict_pb2.PredictRequest,
        context: aio.ServicerContext[predict_pb2.PredictRequest, predict_pb2.PredictResponse],
    ) -> predict_pb2.PredictResponse:
        if request.model == "fault":
            raise RuntimeError("the secret cause")
        if request.model == "full":
            raise Exhausted("the queue is full", retry_after_s=0.25)
        check_texts(request.texts)
        return predict_pb2.PredictResponse(replica="here")


class _Service:
    names: Sequence[str] = ("mesh.v1.PredictService",)

    def register(self, server: aio.Server) -> None:
        predict_pb2_grpc.add_PredictServiceServicer_to_server(
            _Predict(),  # type: ignore[abstract]
            server,
        )

    async def startup(self) -> None:
        return

    async def shutdown(self) -> None:
        return


@pytest.fixture
async def server() -> AsyncIterator[GrpcServer]:
    async with GrpcServer(_Service(), ServiceSettings(drain_seconds=0, grace_seconds=0)) as server:
        yield server


@pytest.fixture
async def channel(server: GrpcServer) -> AsyncIterator[aio.Channel]:
    options = [("grpc.max_send_message_length", -1)]
    async with aio.insecure_channel(server.address, options=options) as channel:
        yield channel


async def _fail(channel: aio.Channel, request: predict_pb2.PredictRequest) -> aio.AioRpcError:
    with pytest.raises(aio.AioRpcError) as caught:
        await predict_pb2_grpc.PredictServiceStub(channel).Predict(request, timeout=10)
    return caught.value


async def test_a_fault_shows_an_id_and_never_its_cause(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        error = await _fail(channel, predict_pb2.PredictRequest(model="fault"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (error.details() or "")
    incident = (error.details() or "").rsplit(" ", 1)[-1]
    assert any(getattr(record, "incident", "") == incident for record in caplog.records)


async def test_an_error_of_ours_keeps_code_message_and_details(channel: aio.Channel) -> None:
    error = await _fail(channel, predict_pb2.PredictRequest(model="full"))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error.details() == "the queue is full"
    assert STATUS_DETAILS_KEY in dict(error.trailing_metadata())


@pytest.mark.parametrize(
    "message",
    [b"\x0a\x02\xff\xfe", b"\x0a\xff\xff\xff\xff", b"\x12\x80\x80\x80\x05" + b"a" * 10_485_760],
    ids=["invalid UTF-8", "not a message", "over 8 MiB"],
)
async def test_a_message_that_cannot_be_decoded_is_the_callers_fault(
    channel: aio.Channel, message: bytes
) -> None:
    raw: Any = channel.unary_unary(PREDICT)
    with pytest.raises(aio.AioRpcError) as caught:
        await raw(message, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_health_check_and_watch_answer(channel: aio.Channel, server: GrpcServer) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="mesh.v1.PredictService")
    assert (await stub.Check(request)).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(request)
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    await server.drain()
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()


async def test_health_knows_its_services_and_no_others(channel: aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    for name in ("", "mesh.v1.PredictService"):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for name in ("mesh.v1.TrainService", "mesh.v1.predictservice", "x" * 10_000):
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.Check(health_pb2.HealthCheckRequest(service=name))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        details = caught.value.details() or ""
        assert details.endswith("here; there are mesh.v1.PredictService")
        assert len(details) < 300
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=name))
        # The protocol's own rule: a watcher waits for a service that may come.
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_health_lists_the_services_of_its_server(
    channel: aio.Channel, server: GrpcServer
) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    messages: Any = health_pb2
    for status in (
        health_pb2.HealthCheckResponse.SERVING,
        health_pb2.HealthCheckResponse.NOT_SERVING,
    ):
        answer = await stub.List(messages.HealthListRequest())
        listed = {name: health.status for name, health in answer.statuses.items()}
        assert listed == {"": status, "mesh.v1.PredictService": status}
        await server.drain()


async def test_a_method_that_a_servicer_lacks_is_unimplemented(
    channel: aio.Channel, caplog: pytest.LogCaptureFixture
) -> None:
    stub = predict_pb2_grpc.PredictServiceStub(channel)
    with caplog.at_level(logging.ERROR), pytest.raises(aio.AioRpcError) as caught:
        await stub.GetModel(predict_pb2.GetModelRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "PredictService/GetModel" in (caught.value.details() or "")
    assert not caplog.records


async def test_the_probe_of_containers_tells_whether_a_server_serves(server: GrpcServer) -> None:
    assert await asyncio.to_thread(is_serving, server.address)
    await server.drain()
    assert not await asyncio.to_thread(is_serving, server.address)
    assert not await asyncio.to_thread(is_serving, "127.0.0.1:1")


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_lists_the_services(channel: aio.Channel, version: str) -> None:
    method = channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    call = method(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    async with asyncio.timeout(60):
        answer: Any = await call.read()
    listed = {service.name for service in answer.list_services_response.service}
    assert {"mesh.v1.PredictService", "grpc.health.v1.Health"} <= listed


async def test_headers_that_envoy_lets_through_are_taken_every_time() -> None:
    settings = ServiceSettings(port=0, drain_seconds=0, grace_seconds=0)
    metadata = (("x-large", "a" * (MAX_HEADER_BYTES - 100)),)
    async with (
        GrpcServer(_Service(), settings) as server,
        aio.insecure_channel(server.address) as channel,
    ):
        stub: Any = predict_pb2_grpc.PredictServiceStub(channel)
        request = predict_pb2.PredictRequest(texts=["a"])
        for _ in range(50):
            answer = await stub.Predict(request, timeout=10, metadata=metadata)
            assert answer.replica == "here"
