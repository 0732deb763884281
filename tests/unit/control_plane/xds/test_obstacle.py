"""Whether every Envoy has what was published, and why not."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest
from envoy_data_plane.envoy.service.discovery.v3 import DiscoveryRequest, DiscoveryResponse
from envoy_data_plane.google.rpc import Status
from grpc import aio

from control_plane.xds import DiscoveryServer, build_snapshot
from control_plane.xds.stream.resources import CDS
from control_plane.xds.stream.server import METHOD, SERVICE
from tests.unit.control_plane.topologies import TOPOLOGY

QUICKLY_S = 0.05


@pytest.fixture
async def discovery() -> AsyncIterator[tuple[DiscoveryServer, aio.Channel]]:
    discovery, server = DiscoveryServer(), aio.server()
    discovery.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    discovery.publish(build_snapshot(TOPOLOGY))
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield discovery, channel
    discovery.close()
    await server.stop(0)


async def envoy(channel: aio.Channel, answers: Sequence[str | None]) -> Any:
    """Connect as an Envoy that answers its responses with these errors; "": it accepts."""
    stream: Any = channel.stream_stream(
        f"/{SERVICE}/{METHOD}",
        request_serializer=bytes,
        response_deserializer=DiscoveryResponse.parse,
    )()
    await stream.write(DiscoveryRequest(type_url=CDS))
    for answer in answers:
        response = await stream.read()
        assert response is not grpc.aio.EOF
        if answer is not None:
            error = Status(code=3, message=answer) if answer else None
            nonce = response.nonce
            await stream.write(
                DiscoveryRequest(type_url=CDS, response_nonce=nonce, error_detail=error)
            )
    return stream


async def test_without_envoy_nothing_is_in_force(
    discovery: tuple[DiscoveryServer, aio.Channel],
) -> None:
    assert await discovery[0].obstacle(QUICKLY_S) == "no Envoy is connected to the control plane"


async def test_an_envoy_that_connects_in_time_is_waited_for(
    discovery: tuple[DiscoveryServer, aio.Channel],
) -> None:
    server, channel = discovery
    waiting = asyncio.create_task(server.obstacle(60))
    stream = await envoy(channel, [""])
    assert await waiting == ""
    stream.cancel()


async def test_an_envoy_that_refuses_is_told_at_once(
    discovery: tuple[DiscoveryServer, aio.Channel],
) -> None:
    server, channel = discovery
    stream = await envoy(channel, ["bad cluster"])
    assert "an Envoy refused the configuration" in await server.obstacle(60)
    stream.cancel()


async def test_an_envoy_that_says_nothing_is_told_after_the_wait(
    discovery: tuple[DiscoveryServer, aio.Channel],
) -> None:
    server, channel = discovery
    stream = await envoy(channel, [None])
    assert "has not taken the configuration within 0.05 s" in await server.obstacle(QUICKLY_S)
    stream.cancel()
