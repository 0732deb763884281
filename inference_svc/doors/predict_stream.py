"""One call of PredictStream: many requests at once, answered in any order.

A request that fails is answered with its error and does not end the stream.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator

from inference_svc.batching.job import Lane
from inference_svc.doors.messages import predict_response
from inference_svc.serving.replica import Replica
from inference_svc.serving.slots import SlotKey
from mesh.v1.predict_pb2 import PredictRequest, PredictStreamResponse
from service_kit.callers.caller import current
from service_kit.errors import InvalidArgument, MeshError, Unavailable
from service_kit.interceptor import Undecodable

log = logging.getLogger(__name__)


class PredictStreamCall:
    """Answers one stream. It is read only while fewer than `limit` requests are unanswered."""

    def __init__(
        self, replica: Replica, replica_id: str, role: str, limit: int, ending: asyncio.Event
    ) -> None:
        """`ending` is set when the replica drains; then the stream is read no further."""
        self._replica = replica
        self._replica_id = replica_id
        self._role = role
        self._ending = ending
        self._permits = asyncio.Semaphore(limit)
        self._answers: asyncio.Queue[PredictStreamResponse | None] = asyncio.Queue()
        self._items: set[asyncio.Task[None]] = set()
        self._unanswered: set[str] = set()

    async def run(
        self, requests: AsyncIterator[PredictRequest | Undecodable]
    ) -> AsyncIterator[PredictStreamResponse]:
        """Yield the answers. Raises Unavailable after the last one when the replica drains."""
        reading = asyncio.create_task(self._read(requests))
        try:
            while (answer := await self._answers.get()) is not None:
                yield answer
                self._permits.release()
            await reading
        finally:
            for task in (reading, *self._items):
                task.cancel()
        if self._ending.is_set():
            raise Unavailable("this replica is shutting down; send what was not answered again")

    async def _read(self, requests: AsyncIterator[PredictRequest | Undecodable]) -> None:
        reading = asyncio.create_task(self._read_all(requests))
        ending = asyncio.create_task(self._ending.wait())
        try:
            await asyncio.wait((reading, ending), return_when=asyncio.FIRST_COMPLETED)
            if reading.done():
                reading.result()
        finally:
            for task in (reading, ending):
                task.cancel()
            await asyncio.wait((reading, *self._items))
            self._answers.put_nowait(None)

    async def _read_all(self, requests: AsyncIterator[PredictRequest | Undecodable]) -> None:
        async for request in requests:
            await self._permits.acquire()
            item = asyncio.create_task(self._answer(request))
            self._items.add(item)
            item.add_done_callback(self._items.discard)

    async def _answer(self, request: PredictRequest | Undecodable) -> None:
        if isinstance(request, Undecodable):
            answer = PredictStreamResponse(error=request.error.status())
        elif request.id in self._unanswered:
            error = InvalidArgument("id", f"{request.id[:60]!r} is not answered yet")
            answer = PredictStreamResponse(id=request.id, error=error.status())
        else:
            self._unanswered.add(request.id)
            answer = await self._predict(request)
            self._unanswered.discard(request.id)
        self._answers.put_nowait(answer)

    async def _predict(self, request: PredictRequest) -> PredictStreamResponse:
        try:
            current().check(request.model)
            answer = await self._replica.predict(
                SlotKey(request.model, self._role), request.texts, Lane.BULK
            )
            response = predict_response(answer, request.all_scores, self._replica_id)
            return PredictStreamResponse(id=request.id, response=response)
        except MeshError as error:
            return PredictStreamResponse(id=request.id, error=error.status())
        except Exception:
            incident = uuid.uuid4().hex[:12]
            log.exception("stream item failed", extra={"incident": incident})
            hidden = MeshError(f"internal error; the log has it as {incident}")
            return PredictStreamResponse(id=request.id, error=hidden.status())
