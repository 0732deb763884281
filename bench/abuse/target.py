"""What an abuser knows of the mesh that it attacks, and what it got."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

# Seconds for which an abuser listens to what it gets.
LISTEN_S = 2.0


@dataclass(frozen=True)
class Target:
    """The doors. `token` has every scope: what a customer of the mesh may hold is tried, too."""

    address: str
    replica: str
    """gRPC address of a replica, which no client should reach, but may."""
    token: str

    @property
    def bearer(self) -> tuple[str, str]:
        """The header with the token."""
        return ("authorization", f"Bearer {self.token}")


@dataclass
class Tally:
    """What an abuser has sent and what it got."""

    requests: int = 0
    """Requests, or streams or connections where nothing but these is held."""
    got: Counter[str] = field(default_factory=Counter)

    def to_json(self) -> dict[str, object]:
        """Plain data."""
        return {"requests": self.requests, "got": dict(self.got.most_common())}


# One wave of an abuse. It is repeated until its time is over, and may be cancelled at any moment.
Wave = Callable[[Target, Tally], Awaitable[None]]


@asynccontextmanager
async def connection(
    address: str,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect; the connection is cut at the end."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def received(reader: asyncio.StreamReader, seconds: float = LISTEN_S) -> bytes:
    """Read until the mesh closes the connection or the time is over."""
    data = b""
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            while piece := await reader.read(1 << 16):
                data += piece
    return data
