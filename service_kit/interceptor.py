"""The one interceptor of every service: decoding, error mapping, metrics and the error log."""

import inspect
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
from grpc import aio
from prometheus_client import Histogram

from service_kit.errors import InvalidArgument, MeshError
from service_kit.limits import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

RPC_SECONDS = Histogram(
    "mesh_rpc_seconds",
    "Duration of a call in this service, by method and gRPC code.",
    ("method", "code"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)

Context: TypeAlias = aio.ServicerContext[Any, Any]
F = TypeVar("F", bound=Callable[..., Any])
STATUS_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Undecodable:
    """Stands for a message that could not be decoded.

    A handler marked by `takes_undecodable` gets it in place of the message; for every other
    handler the call ends with its error.
    """

    error: MeshError


def takes_undecodable(method: F) -> F:
    """Mark a streaming method that answers undecodable messages itself."""
    method.takes_undecodable = True  # type: ignore[attr-defined]
    return method


async def abort(context: Context, error: MeshError) -> NoReturn:
    """End the call with the status, message and details of `error`."""
    details = error.status().SerializeToString()
    await context.abort(error.code, str(error), ((STATUS_DETAILS_KEY, details),))


class ServiceInterceptor(aio.ServerInterceptor):
    """Wraps every handler, once for each method; see the module's docstring."""

    def __init__(self) -> None:
        self._wrapped: dict[str, Any] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        method: str = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            wrapped = self._wrapped[method] = _wrap(method, handler)
        return wrapped


def _wrap(method: str, handler: Any) -> Any:
    kind = _kind(handler)
    behaviour = getattr(handler, kind)
    wrap = _wrap_streaming if handler.response_streaming else unary_behaviour
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(
        wrap(method, behaviour, request_streaming=handler.request_streaming),
        request_deserializer=decoder(handler.request_deserializer),
        response_serializer=handler.response_serializer,
    )


def _kind(handler: Any) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"


def too_large(size: int) -> InvalidArgument:
    """The error of a message of so many bytes."""
    problem = f"has {size:,} bytes; at most {MAX_MESSAGE_BYTES:,} are taken"
    return InvalidArgument("message", problem)


def decoder(decode: Callable[[bytes], Any] | None) -> Callable[[bytes], Any]:
    """A decoder that gives an Undecodable instead of raising."""

    def safe_decode(data: bytes) -> Any:
        # The transport's own limit would answer RESOURCE_EXHAUSTED, which means "retry later".
        if len(data) > MAX_MESSAGE_BYTES:
            return Undecodable(too_large(len(data)))
        if decode is None:
            return data
        try:
            return decode(data)
        except Exception:
            problem = "is not a valid message of its type; strings must be UTF-8"
            return Undecodable(InvalidArgument("message", problem))

    return safe_decode


def _checked(request: Any) -> Any:
    if isinstance(request, Undecodable):
        raise request.error
    return request


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request)


def _prepared(request: Any, behaviour: Any, request_streaming: bool) -> Any:
    if not request_streaming:
        return _checked(request)
    if getattr(behaviour, "takes_undecodable", False):
        return request
    return _checked_stream(request)


def unary_behaviour(method: str, behaviour: Any, request_streaming: bool = False) -> Any:
    """A handler with one response, whose errors have become the call's status."""
    # Looked up once: of a short call it would be a part worth naming.
    answered = RPC_SECONDS.labels(method, grpc.StatusCode.OK.name)

    async def call(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        try:
            response = await behaviour(_prepared(request, behaviour, request_streaming), context)
        except BaseException as error:
            code = _code(error, context)
            RPC_SECONDS.labels(method, code.name).observe(time.perf_counter() - started)
            await _end(method, context, error)
        answered.observe(time.perf_counter() - started)
        return response

    return call


def _wrap_streaming(method: str, behaviour: Any, request_streaming: bool) -> Any:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            responses = behaviour(_prepared(request, behaviour, request_streaming), context)
            if inspect.isawaitable(responses):
                # grpcio's own health service writes to the context instead of yielding.
                await responses
                return
            async for response in responses:
                yield response
        except BaseException as error:
            code = _code(error, context)
            await _end(method, context, error)
        finally:
            RPC_SECONDS.labels(method, code.name).observe(time.perf_counter() - started)

    return call


def _code(error: BaseException, context: Context) -> grpc.StatusCode:
    if isinstance(error, MeshError):
        return error.code
    if isinstance(error, aio.AbortError):
        code = context.code()
        return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
    if isinstance(error, Exception):
        return grpc.StatusCode.INTERNAL
    return grpc.StatusCode.CANCELLED


async def _end(method: str, context: Context, error: BaseException) -> NoReturn:
    if isinstance(error, MeshError):
        await abort(context, error)
    if isinstance(error, aio.AbortError) or not isinstance(error, Exception):
        raise error
    # The caller gets an id to quote, the log gets the trace.
    incident = uuid.uuid4().hex[:12]
    log.error("call failed", exc_info=error, extra={"method": method, "incident": incident})
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error; the log has it as {incident}")
