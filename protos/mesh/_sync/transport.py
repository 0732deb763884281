"""What the sync client does in its own way: channels, calls, pauses and bulk streams."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias, TypeVar

import grpc

from mesh._shared import calls
from mesh.errors import Unavailable, from_rpc_error
from mesh.v1 import predict_pb2, predict_pb2_grpc

T = TypeVar("T")
Channel: TypeAlias = grpc.Channel
Requests: TypeAlias = Iterable[predict_pb2.PredictRequest]


def open_channel(address: str, ca: str | None = None) -> Channel:
    """Open a channel to the mesh at host:port; it connects with the first call.

    `https://host:port` uses TLS, and trusts the certificates in the PEM file `ca`, else those of
    the environment's MESH_CA, else the usual authorities. Raises OSError for an unreadable file.
    """
    target, secure = calls.target(address)
    if not secure:
        return grpc.insecure_channel(target, options=calls.channel_options())
    trusted = grpc.ssl_channel_credentials(calls.trusted_certificates(ca))
    return grpc.secure_channel(target, trusted, options=calls.channel_options())


def pause(seconds: float) -> None:
    """Let the time pass."""
    time.sleep(seconds)


def call(
    method: Callable[..., T],
    request: Any,
    timeout_s: float | None = calls.CALL_TIMEOUT_S,
    metadata: tuple[tuple[str, str], ...] = (),
) -> T:
    """Call a method once. Raises an error of `mesh.errors`."""
    try:
        return method(request, timeout=timeout_s, metadata=metadata)
    except grpc.RpcError as error:
        raise from_rpc_error(error) from None


class BulkStream:
    """One bulk scoring: a sender thread of grpc's feeds requests, the caller reads answers."""

    def __init__(
        self,
        stub: predict_pb2_grpc.PredictServiceStub,
        requests: Requests,
    ) -> None:
        self._stub = stub
        self._requests = iter(requests)
        self._exhausted = False
        self._failure: BaseException | None = None
        # Taking the next request may block in the caller's iterator: a lock of its own.
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._unanswered: dict[str, predict_pb2.PredictRequest] = {}

    def answers(self) -> Iterator[predict_pb2.PredictStreamResponse]:
        """Yield the answers, each id once, in any order. Raises an error of `mesh.errors`."""
        failures = 0
        while True:
            stop = threading.Event()
            stream = self._stub.PredictStream(self._feed(stop))
            try:
                for answer in stream:
                    failures = 0
                    with self._changed:
                        request = self._unanswered.pop(answer.id, None)
                        self._changed.notify_all()
                    if request is not None:
                        yield answer
                if self._unanswered and self._failure is None:
                    failures = calls.count_failure(Unavailable("the stream ended early"), failures)
            except grpc.RpcError as error:
                if self._failure is None:
                    failures = calls.count_failure(from_rpc_error(error), failures)
                    time.sleep(calls.STREAM_PAUSE_S)
            finally:
                stop.set()
                with self._changed:
                    self._changed.notify_all()
                stream.cancel()
            if self._failure is not None:
                raise self._failure
            if self._exhausted and not self._unanswered:
                return

    def _feed(self, stop: threading.Event) -> Iterator[predict_pb2.PredictRequest]:
        sent: set[str] = set()
        while not stop.is_set():
            request = self._next(stop, sent)
            if request is None:
                return
            sent.add(request.id)
            yield request

    def _next(self, stop: threading.Event, sent: set[str]) -> predict_pb2.PredictRequest | None:
        with self._taking:
            with self._changed:
                for request in self._unanswered.values():
                    if request.id not in sent:
                        return request
                self._changed.wait_for(
                    lambda: stop.is_set() or len(self._unanswered) < calls.BULK_WINDOW
                )
            if stop.is_set() or self._exhausted:
                return None
            try:
                request = next(self._requests)
            except StopIteration:
                self._exhausted = True
                return None
            except BaseException as error:
                # The caller's iterator failed: its error reaches the caller, not grpc's log.
                self._failure = error
                self._exhausted = True
                return None
            with self._changed:
                self._unanswered[request.id] = request
            return request
