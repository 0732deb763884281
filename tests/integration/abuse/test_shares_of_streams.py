"""Streams of health and of reflection are a share of each caller, and end when they are idle."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from control_plane.xds.routes import route_rules
from service_kit import public_reflection, server
from tests.integration.abuse.honest_clients import honest_clients
from tests.integration.open_inference.conftest import OneReplica

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
LIST = reflection_pb2.ServerReflectionRequest(list_services="").SerializeToString()
Open = Callable[[aio.Channel, str], Any]


def watch(channel: aio.Channel, subject: str) -> Any:
    method: Any = channel.unary_stream("/grpc.health.v1.Health/Watch")
    request = health_pb2.HealthCheckRequest().SerializeToString()
    return method(request, metadata=(("x-mesh-subject", subject),))


def reflect(channel: aio.Channel, subject: str) -> Any:
    async def asks() -> Any:
        yield LIST
        await asyncio.Event().wait()

    method: Any = channel.stream_stream(REFLECTION)
    return method(asks(), metadata=(("x-mesh-subject", subject),))


@pytest.mark.parametrize(
    ("begin", "share"),
    [(watch, server.WATCHES_OF_A_CALLER), (reflect, public_reflection.STREAMS_OF_A_CALLER)],
)
async def test_a_caller_holds_its_share_and_others_theirs(
    one_replica: OneReplica, begin: Open, share: int
) -> None:
    async with (
        honest_clients(one_replica.envoy),
        aio.insecure_channel(one_replica.server.address) as channel,
    ):
        held = [begin(channel, "shop") for _ in range(share)]
        try:
            assert all(await asyncio.gather(*(call.read() for call in held)))
            refused = begin(channel, "shop")
            with pytest.raises(aio.AioRpcError, match=f"may have {share} ") as caught:
                await refused.read()
            assert caught.value.code() is StatusCode.RESOURCE_EXHAUSTED
            other = begin(channel, "others")
            assert await other.read()
            other.cancel()
        finally:
            for call in held:
                call.cancel()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection_ends_soon_when_nobody_asks(version: str) -> None:
    path = f"/grpc.reflection.{version}.ServerReflection/"
    [rule] = [rule for rule in route_rules.RULES if rule.path == path]
    assert rule.idle_s == 30
