"""Requests by their id: each is carried out once, and repeated requests get the same answer."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from control_plane.changes.answer_store import AnswerStore, StoredAnswer
from service_kit.errors import AlreadyExists, Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

REMEMBERED = 1024
# Seconds that a request may wait for the store before it goes on without it.
STORE_S = 3.0


@dataclass(frozen=True)
class _Asked(Generic[T]):
    """A request of this process: what it asks for, of which model, and its answer."""

    content: str
    incarnation: str | None
    task: asyncio.Task[T]


class AnsweredRequests(Generic[T]):
    """Remembers the latest answers. A caller that repeats a running request waits for its answer.

    A request goes on when its caller leaves. A request that failed is forgotten: it changed
    nothing, so the same id may try again. The store keeps the answers beyond a restart; while it is
    away, requests are carried out all the same, and their answers last as long as the process.
    """

    def __init__(
        self,
        kind: str,
        store: AnswerStore,
        encode: Callable[[T], Mapping[str, Any]],
        decode: Callable[[Mapping[str, Any]], T],
        remembered: int = REMEMBERED,
    ) -> None:
        """`kind` names the requests in the store; `encode` makes plain values of an answer."""
        self._kind = kind
        self._store = store
        self._encode = encode
        self._decode = decode
        self._remembered = remembered
        self._asked: OrderedDict[str, _Asked[T]] = OrderedDict()

    async def once(
        self,
        request_id: str,
        content: str,
        work: Callable[[], Coroutine[Any, Any, T]],
        incarnation: str | None = None,
    ) -> T:
        """Await `work()`, or return the result that it had under this id before.

        `incarnation` tells the model apart from an earlier one of its name, whose answers do not
        count any more; None: unknown, so every answer counts.

        Raises AlreadyExists when the id was used with other `content` before.
        """
        asked = self._asked.get(request_id)
        if asked is not None and asked.task.done() and _other(asked.incarnation, incarnation):
            asked = None
        if asked is None:
            asked = self._start(request_id, content, work, incarnation)
        if asked.content != content:
            raise _used(request_id)
        return await asyncio.shield(asked.task)

    async def close(self) -> None:
        """Cancel the requests that are running."""
        running = [asked.task for asked in self._asked.values() if not asked.task.done()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _start(
        self,
        request_id: str,
        content: str,
        work: Callable[[], Coroutine[Any, Any, T]],
        incarnation: str | None,
    ) -> _Asked[T]:
        task = asyncio.create_task(self._answer(request_id, content, work, incarnation))
        asked = self._asked[request_id] = _Asked(content, incarnation, task)
        task.add_done_callback(lambda _: self._ended(request_id, asked))
        return asked

    async def _answer(
        self,
        request_id: str,
        content: str,
        work: Callable[[], Coroutine[Any, Any, T]],
        incarnation: str | None,
    ) -> T:
        stored = await self._stored(request_id)
        if stored is not None and not _other(stored.incarnation, incarnation):
            if stored.content != content:
                raise _used(request_id)
            return self._decode(stored.answer)
        answer = await work()
        await self._keep(request_id, StoredAnswer(content, incarnation, self._encode(answer)))
        return answer

    async def _stored(self, request_id: str) -> StoredAnswer | None:
        try:
            async with asyncio.timeout(STORE_S):
                return await self._store.find(self._kind, request_id)
        except (Unavailable, TimeoutError) as error:
            log.warning("answers not read", extra={"request_id": request_id, "why": str(error)})
            return None

    async def _keep(self, request_id: str, answer: StoredAnswer) -> None:
        try:
            async with asyncio.timeout(STORE_S):
                await self._store.keep(self._kind, request_id, answer)
        except (Unavailable, TimeoutError) as error:
            log.warning("answer not kept", extra={"request_id": request_id, "why": str(error)})

    def _ended(self, request_id: str, asked: _Asked[T]) -> None:
        task = asked.task
        if task.cancelled() or task.exception() is not None:
            if self._asked.get(request_id) is asked:
                del self._asked[request_id]
            why = "cancelled" if task.cancelled() else str(task.exception())
            log.warning("request failed", extra={"request_id": request_id, "why": why})
        finished = [key for key, other in self._asked.items() if other.task.done()]
        for key in finished[: max(0, len(finished) - self._remembered)]:
            del self._asked[key]


def _other(incarnation: str | None, now: str | None) -> bool:
    """Whether an answer is one about an earlier model of the same name."""
    return incarnation is not None and now is not None and incarnation != now


def _used(request_id: str) -> AlreadyExists:
    return AlreadyExists(f"request_id {request_id!r} was used for another request")
