"""A client of another part, which connects anew when this part gets another certificate."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from grpc import aio

from service_kit.identities.grpc_tls import Options, channel
from service_kit.identities.identity import Identity, Pems

S = TypeVar("S")


class _Connection(Generic[S]):
    """A channel with its stubs, and the number of calls that are under way."""

    def __init__(self, opened: aio.Channel, pems: Pems | None, stubs: S) -> None:
        self.channel = opened
        self.pems = pems
        self.stubs = stubs
        self.calls = 0
        self.idle = asyncio.Event()
        self.idle.set()


class PartClient(Generic[S]):
    """Holds one channel. A channel whose certificate was replaced ends after its last call."""

    def __init__(
        self,
        address: str,
        part: str,
        make_stubs: Callable[[aio.Channel], S],
        identity: Identity | None = None,
        options: Options = (),
    ) -> None:
        """`part` is who answers at `address`; `make_stubs` gets each new channel."""
        self._address = address
        self._part = part
        self._make_stubs = make_stubs
        self._identity = identity
        self._options = options
        self._connection = self._connect()

    @asynccontextmanager
    async def stubs(self) -> AsyncIterator[S]:
        """Lend the stubs for one call; their channel stays open meanwhile."""
        connection = self._current()
        connection.calls += 1
        connection.idle.clear()
        try:
            yield connection.stubs
        finally:
            connection.calls -= 1
            if not connection.calls:
                connection.idle.set()
                if connection is not self._connection:
                    await connection.channel.close()

    async def close(self) -> None:
        """Close the channel once its calls have ended.

        Closing it earlier would cancel the tasks that wait for its calls.
        """
        await self._connection.idle.wait()
        await self._connection.channel.close()

    def _current(self) -> _Connection[S]:
        if self._identity is not None:
            before = self._connection
            if self._identity.current() is not before.pems:
                self._connection = self._connect()
                if not before.calls:
                    # Nobody would close it later. Without calls there is nothing to wait for.
                    self._closing = asyncio.create_task(before.channel.close())
        return self._connection

    def _connect(self) -> _Connection[S]:
        pems = self._identity.current() if self._identity else None
        opened = channel(self._address, self._part, pems, self._options)
        return _Connection(opened, pems, self._make_stubs(opened))
