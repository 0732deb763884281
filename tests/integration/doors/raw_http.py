"""Bytes of HTTP/1 as they are: no library would send most of what these tests send."""

import asyncio
import json
from dataclasses import dataclass
from typing import Any, Protocol

from tests.real_parts.envoy import RunningEnvoy

PATIENCE_S = 20.0


class HasEnvoy(Protocol):
    """A mesh behind an Envoy."""

    envoy: RunningEnvoy


@dataclass(frozen=True)
class RawAnswer:
    """One answer of HTTP/1."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def words(self) -> str:
        """The message of an error. Raises when the body is not one of the two forms of errors."""
        told: dict[str, Any] = json.loads(self.body)
        if set(told) == {"error"}:
            return str(told["error"])
        assert set(told) == {"code", "message", "details"}
        assert isinstance(told["code"], int)
        return str(told["message"])


async def exchange(mesh: HasEnvoy, request: bytes) -> bytes:
    """Send bytes on a connection of their own; return all that comes until Envoy closes it."""
    host, _, port = mesh.envoy.address.rpartition(":")
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            await writer.drain()
            return await reader.read()
        finally:
            writer.close()


async def answer_to(mesh: HasEnvoy, request: bytes) -> RawAnswer:
    """Send one request whose answer ends with the connection."""
    return parsed(await exchange(mesh, request))


def parsed(received: bytes) -> RawAnswer:
    """Read one answer whose body is all that comes after its head."""
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status, _ = first.split(" ", 2)
    headers = dict((line + " ").split(": ", 1) for line in lines)
    return RawAnswer(version, int(status), {k: v.strip() for k, v in headers.items()}, body)
