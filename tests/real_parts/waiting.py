"""Waiting for a condition that cannot be awaited, for example of a file or a process."""

import asyncio
from collections.abc import Awaitable, Callable

LOOK_EVERY_S = 0.02


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return once `condition()` is true. Raises TimeoutError after `timeout_s` seconds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(LOOK_EVERY_S)


async def until_async(condition: Callable[[], Awaitable[bool]], timeout_s: float = 60.0) -> None:
    """Return once `await condition()` is true. Raises TimeoutError after `timeout_s` seconds."""
    async with asyncio.timeout(timeout_s):
        while not await condition():
            await asyncio.sleep(LOOK_EVERY_S)
