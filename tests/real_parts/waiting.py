"""Waiting for what can only be looked at: files, processes."""

import asyncio
from collections.abc import Callable

LOOK_EVERY_S = 0.02


async def until(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Return once `condition()` is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(LOOK_EVERY_S)
