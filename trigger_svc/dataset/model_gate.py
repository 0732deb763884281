"""A bulkhead: the calls about one model take few of the database connections, the others wait.

So a table that somebody has locked, or that takes long to read, holds up the calls about its own
model only.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from service_kit.errors import Unavailable


@dataclass
class _Door:
    free: asyncio.Semaphore
    calls: int = field(default=0)
    """Calls that are inside or wait."""


class ModelGate:
    """Lets `at_once` calls of each model in; `waiting` more wait, for `wait_s` seconds at most."""

    def __init__(self, at_once: int, waiting: int, wait_s: float) -> None:
        self._at_once = at_once
        self._most = at_once + waiting
        self._wait_s = wait_s
        self._doors: dict[str, _Door] = {}

    @asynccontextmanager
    async def enter(self, model: str) -> AsyncIterator[None]:
        """Wait for a place and hold it. Raises Unavailable when none gets free in time."""
        door = self._doors.setdefault(model, _Door(asyncio.Semaphore(self._at_once)))
        if door.calls >= self._most:
            raise Unavailable(f"{door.calls} other calls about {model} are at work or wait already")
        door.calls += 1
        try:
            try:
                async with asyncio.timeout(self._wait_s):
                    await door.free.acquire()
            except TimeoutError:
                raise Unavailable(
                    f"other calls about {model} have taken longer than {self._wait_s:g} s: its"
                    " table may be locked"
                ) from None
            try:
                yield
            finally:
                door.free.release()
        finally:
            door.calls -= 1
            if not door.calls:
                del self._doors[model]
