"""How far a preparation is, and how another thread stops it."""

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Dropped(Exception):
    """The preparation was stopped because nobody needs it any more."""


class Progress:
    """Shared by the thread that prepares and the event loop that watches."""

    def __init__(self) -> None:
        self.step = ""
        self._lock = threading.Lock()
        self._dropped = False
        self._downloading: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def enter(self, step: str) -> None:
        """Begin a step. Raises Dropped."""
        if self._dropped:
            raise Dropped
        self.step = step

    def drop(self) -> None:
        """Stop the preparation: a download at once, any other step when it ends."""
        with self._lock:
            self._dropped = True
            if self._downloading is not None:
                loop, task = self._downloading
                loop.call_soon_threadsafe(task.cancel)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in this thread, on an event loop of its own. Raises Dropped."""
        return asyncio.run(self._droppable(work))

    async def _droppable(self, work: Coroutine[Any, Any, T]) -> T:
        task = asyncio.ensure_future(work)
        with self._lock:
            self._downloading = asyncio.get_running_loop(), task
            if self._dropped:
                task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            raise Dropped from None
        finally:
            with self._lock:
                self._downloading = None
