"""Connections that a stranger opens and does not use: Envoy stays within its memory."""

import asyncio
import socket

import pytest

from control_plane.topology import MAX_CLIENT_CONNECTIONS
from tests.integration.abuse.honest_clients import honest_clients
from tests.real_parts.waiting import until_async
from tests.twins.toy_mesh import ToyMesh

pytestmark = pytest.mark.asyncio(loop_scope="module")

SAMPLE = 1_500
REQUEST = b"GET /v1/models/reviews HTTP/1.1\r\nhost: localhost\r\n\r\n"
ACTIVE = "http.mesh.downstream_cx_active"
# Percent of the memory that Envoy may take. Above 95 it refuses requests.
PRESSURE = "overload.envoy.resource_monitors.fixed_heap.pressure"
MOST_PRESSURE = 90


async def test_as_many_connections_as_are_taken_do_not_fill_envoys_memory(mesh: ToyMesh) -> None:
    host, port = mesh.envoy.address.split(":")

    async def stat(name: str) -> int:
        return (await mesh.envoy.stats(rf"^{name}$"))[name]

    async def all_are_open() -> bool:
        return await stat(ACTIVE) >= SAMPLE

    async with honest_clients(mesh.envoy) as honest:
        await honest.more(100)
        before = await stat(PRESSURE)
        held: list[socket.socket] = []
        try:
            for number in range(SAMPLE):
                connection = socket.create_connection((host, int(port)))
                connection.sendall(REQUEST)
                held.append(connection)
                if number % 20 == 0:
                    await asyncio.sleep(0)
            await until_async(all_are_open)
            await honest.more(100)
            grown = await stat(PRESSURE) - before
        finally:
            for connection in held:
                connection.close()
    assert before + grown * MAX_CLIENT_CONNECTIONS / SAMPLE < MOST_PRESSURE, (before, grown)
