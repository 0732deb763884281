"""What the async client does in its own way: channels, calls, pauses and bulk streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, TypeAlias, TypeVar

import grpc
from grpc import aio

from mesh._shared import calls
from mesh.errors import Unavailable, from_rpc_error
from mesh.v1 import predict_pb2, predict_pb2_grpc

T = TypeVar("T")
Channel: TypeAlias = aio.Channel
Requests: TypeAlias = (
    Iterable[predict_pb2.PredictRequest] | AsyncIterable[predict_pb2.PredictRequest]
)


def open_channel(address: str, ca: str | None = None) -> Channel:
    """Open a channel to the mesh at host:port; it connects with the first call.

    `https://host:port` uses TLS, and trusts the certificates in the PEM file `ca`, else those of
    the environment's MESH_CA, else the usual authorities. Raises OSError for an unreadable file.
    """
    target, secure = calls.target(address)
    if not secure:
        return aio.insecure_channel(target, options=calls.channel_options())
    trusted = grpc.ssl_channel_credentials(calls.trusted_certificates(ca))
    return aio.secure_channel(target, trusted, options=calls.channel_options())


async def pause(seconds: float) -> None:
    """Let the time pass."""
    await asyncio.sleep(seconds)


async def call(
    method: Callable[..., Awaitable[T]],
    request: Any,
    timeout_s: float | None = calls.CALL_TIMEOUT_S,
    metadata: tuple[tuple[str, str], ...] = (),
) -> T:
    """Call a method once. Raises an error of `mesh.errors`."""
    try:
        return await method(request, timeout=timeout_s, metadata=metadata)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


async def _as_async(requests: Iterable[T] | AsyncIterable[T]) -> AsyncIterator[T]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request


class BulkStream:
    """One bulk scoring: grpc's sender task feeds requests, the caller reads answers."""

    def __init__(
        self,
        stub: predict_pb2_grpc.PredictServiceAsyncStub,
        requests: Requests,
    ) -> None:
        self._stub = stub
        self._requests = _as_async(requests)
        self._exhausted = False
        self._failure: Exception | None = None
        # A sender that was cut off may still be taking a request: the next one waits for it.
        self._taking = asyncio.Lock()
        self._changed = asyncio.Condition()
        self._take: asyncio.Future[predict_pb2.PredictRequest] | None = None
        self._unanswered: dict[str, predict_pb2.PredictRequest] = {}

    async def answers(self) -> AsyncIterator[predict_pb2.PredictStreamResponse]:
        """Yield the answers, each id once, in any order. Raises an error of `mesh.errors`."""
        failures = 0
        while True:
            stop = asyncio.Event()
            stream = self._stub.PredictStream(self._feed(stop))
            try:
                async for answer in stream:
                    failures = 0
                    request = self._unanswered.pop(answer.id, None)
                    await self._notify()
                    if request is not None:
                        yield answer
                if self._unanswered and self._failure is None:
                    failures = calls.count_failure(Unavailable("the stream ended early"), failures)
            except grpc.RpcError as error:
                if self._failure is None:
                    failures = calls.count_failure(from_rpc_error(error), failures)
                    await asyncio.sleep(calls.STREAM_PAUSE_S)
            finally:
                stop.set()
                await self._notify()
                stream.cancel()
            if self._failure is not None:
                raise self._failure
            if self._exhausted and not self._unanswered:
                return

    async def _anext(self) -> predict_pb2.PredictRequest:
        return await anext(self._requests)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _feed(self, stop: asyncio.Event) -> AsyncIterator[predict_pb2.PredictRequest]:
        sent: set[str] = set()
        while not stop.is_set():
            request = await self._next(stop, sent)
            if request is None:
                return
            sent.add(request.id)
            yield request

    async def _next(self, stop: asyncio.Event, sent: set[str]) -> predict_pb2.PredictRequest | None:
        async with self._taking:
            for request in self._unanswered.values():
                if request.id not in sent:
                    return request
            async with self._changed:
                await self._changed.wait_for(
                    lambda: stop.is_set() or len(self._unanswered) < calls.BULK_WINDOW
                )
            if stop.is_set() or self._exhausted:
                return None
            try:
                # Shielded: a sender that is cut off must not take the caller's iterator with it.
                self._take = self._take or asyncio.ensure_future(self._anext())
                request = await asyncio.shield(self._take)
                self._take = None
            except StopAsyncIteration:
                self._exhausted = True
                return None
            except Exception as error:
                # The caller's iterator failed: its error reaches the caller, not grpc's log.
                self._failure = error
                self._exhausted = True
                return None
            self._unanswered[request.id] = request
            return request
