"""Requests by their id: each is carried out once, and repeated requests get the same answer."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from service_kit.errors import AlreadyExists

log = logging.getLogger(__name__)

T = TypeVar("T")

REMEMBERED = 1024


class AnsweredRequests(Generic[T]):
    """Remembers the latest answers. A caller that repeats a running request waits for its answer.

    A request goes on when its caller leaves. A request that failed is forgotten: it changed
    nothing, so the same id may try again.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._remembered = remembered
        self._tasks: OrderedDict[str, tuple[object, asyncio.Task[T]]] = OrderedDict()

    async def once(
        self, request_id: str, content: object, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Await `work()`, or return the result that it had under this id before.

        Raises AlreadyExists when the id was used with other `content` before.
        """
        if request_id not in self._tasks:
            self._start(request_id, content, work)
        first_content, task = self._tasks[request_id]
        if first_content != content:
            raise AlreadyExists(f"request_id {request_id!r} was used for another request")
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Cancel the requests that are running."""
        running = [task for _, task in self._tasks.values() if not task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(
        self, request_id: str, content: object, work: Callable[[], Coroutine[Any, Any, T]]
    ) -> None:
        task = asyncio.create_task(work())
        self._tasks[request_id] = content, task
        task.add_done_callback(lambda done: self._ended(request_id, done))

    def _ended(self, request_id: str, task: asyncio.Task[T]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if failed:
            del self._tasks[request_id]
            why = "cancelled" if task.cancelled() else str(task.exception())
            log.warning("request failed", extra={"request_id": request_id, "why": why})
        finished = [key for key, (_, other) in self._tasks.items() if other.done()]
        for key in finished[: max(0, len(finished) - self._remembered)]:
            del self._tasks[key]
