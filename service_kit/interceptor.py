"""The interceptor of every gRPC server here: decodes, maps errors, measures, logs failures."""

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

from service_kit.callers.audit_entry import Entry
from service_kit.callers.audited_calls import AUDITED, AuditedCall
from service_kit.callers.caller import Caller, check_message, enter
from service_kit.decompression import unpacked
from service_kit.errors import InvalidArgument, MeshError, Unimplemented
from service_kit.identities.admission import Admission
from service_kit.limits import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)

RPC_SECONDS = Histogram(
    "mesh_rpc_seconds",
    "Duration of a call in this service, by method and gRPC code.",
    ("method", "code"),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600),
)

Context: TypeAlias = aio.ServicerContext[Any, Any]
Record: TypeAlias = Callable[[Entry], None]
F = TypeVar("F", bound=Callable[..., Any])
STATUS_DETAILS_KEY = "grpc-status-details-bin"


@dataclass(frozen=True)
class Undecodable:
    """Takes the place of a message that could not be decoded.

    A handler that is marked with `takes_undecodable` receives it like a message. For every other
    handler the call ends with `error`.
    """

    error: MeshError


def takes_undecodable(method: F) -> F:
    """Mark a streaming method that receives an Undecodable and answers it by itself."""
    method.takes_undecodable = True  # type: ignore[attr-defined]
    return method


async def abort(context: Context, error: MeshError) -> NoReturn:
    """End the call with the status, message and details of `error`."""
    details = error.status().SerializeToString()
    await context.abort(error.code, str(error), ((STATUS_DETAILS_KEY, details),))


class ServiceInterceptor(aio.ServerInterceptor):
    """Wraps the handler of each method, once, at the method's first call."""

    def __init__(self, record: Record | None = None, admission: Admission | None = None) -> None:
        """`record` takes the audit's entry of each call that is a change; None: there is none.
        `admission` says which parts may call; None: every peer may."""
        self._record = record
        self._admission = admission
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
            record = self._record if method in AUDITED else None
            wrapped = self._wrapped[method] = _wrap(method, handler, record, self._admission)
        return wrapped


def _wrap(method: str, handler: Any, record: Record | None, admission: Admission | None) -> Any:
    arity = _arity(handler)
    behaviour, streams = getattr(handler, arity), handler.request_streaming
    if admission is not None:
        behaviour = admission.guarded(method, behaviour)
    make = getattr(grpc, f"{arity}_rpc_method_handler")
    return make(
        _wrap_streamed_response(method, behaviour, streams)
        if handler.response_streaming
        else wrap_unary_response(method, behaviour, streams, record),
        request_deserializer=safe_decoder(handler.request_deserializer, unpacked),
        response_serializer=handler.response_serializer,
    )


def _arity(handler: Any) -> str:
    request = "stream" if handler.request_streaming else "unary"
    response = "stream" if handler.response_streaming else "unary"
    return f"{request}_{response}"


def message_too_large(size: int) -> InvalidArgument:
    """Return the error for a message of `size` bytes, more than MAX_MESSAGE_BYTES."""
    problem = f"has {size:,} bytes; at most {MAX_MESSAGE_BYTES:,} are taken"
    return InvalidArgument("message", problem)


def safe_decoder(
    decode: Callable[[bytes], Any] | None, unpack: Callable[[bytes], bytes] | None = None
) -> Callable[[bytes], Any]:
    """Return a decoder that returns an Undecodable where `decode` raises an error.

    `unpack` is called before it, and raises a MeshError for what cannot be unpacked.
    """

    def safe_decode(data: bytes) -> Any:
        # grpcio's own limit would answer RESOURCE_EXHAUSTED, which means "retry later".
        if len(data) > MAX_MESSAGE_BYTES:
            return Undecodable(message_too_large(len(data)))
        try:
            if unpack is not None:
                data = unpack(data)
            return data if decode is None else decode(data)
        except MeshError as error:
            return Undecodable(error)
        except Exception:
            problem = "is not a valid message of its type; strings must be UTF-8"
            return Undecodable(InvalidArgument("message", problem))

    return safe_decode


def _checked(request: Any, caller: Caller, noted: AuditedCall | None) -> Any:
    if isinstance(request, Undecodable):
        raise request.error
    if noted is not None:
        noted.see(request)
    check_message(caller, request)
    return request


async def _checked_stream(
    requests: AsyncIterator[Any], caller: Caller, noted: AuditedCall | None
) -> AsyncIterator[Any]:
    async for request in requests:
        yield _checked(request, caller, noted)


def _checked_input(
    request: Any,
    caller: Caller,
    behaviour: Any,
    request_streaming: bool,
    noted: AuditedCall | None = None,
) -> Any:
    if not request_streaming:
        return _checked(request, caller, noted)
    # Such a method answers each message by itself, and checks the model of each by itself.
    if getattr(behaviour, "takes_undecodable", False):
        return request
    return _checked_stream(request, caller, noted)


def wrap_unary_response(
    method: str, behaviour: Any, request_streaming: bool = False, record: Record | None = None
) -> Any:
    """Return a handler of a method with one response that maps its errors and is measured.

    `record` takes an entry of the audit when a call ends; None: the method has none.
    """
    # Looked up once for all calls: the look-up takes a noticeable part of a short call's time.
    ok_seconds = RPC_SECONDS.labels(method, grpc.StatusCode.OK.name)

    async def call(request: Any, context: Context) -> Any:
        started = time.perf_counter()
        caller = enter(context)
        noted = None if record is None else AuditedCall(record, method, caller)
        try:
            checked = _checked_input(request, caller, behaviour, request_streaming, noted)
            response = await behaviour(checked, context)
        except BaseException as error:
            code = _status_code(error, context)
            RPC_SECONDS.labels(method, code.name).observe(time.perf_counter() - started)
            if noted is not None:
                noted.end(code, error=error)
            await _abort_call(method, context, error)
        ok_seconds.observe(time.perf_counter() - started)
        if noted is not None:
            noted.end(grpc.StatusCode.OK, response)
        return response

    return call


def _wrap_streamed_response(method: str, behaviour: Any, request_streaming: bool) -> Any:
    async def call(request: Any, context: Context) -> AsyncIterator[Any]:
        started = time.perf_counter()
        code = grpc.StatusCode.OK
        try:
            checked = _checked_input(request, enter(context), behaviour, request_streaming)
            responses = behaviour(checked, context)
            if inspect.isawaitable(responses):
                # grpcio's own health service writes to the context and yields nothing.
                await responses
                return
            async for response in responses:
                yield response
        except BaseException as error:
            code = _status_code(error, context)
            await _abort_call(method, context, error)
        finally:
            RPC_SECONDS.labels(method, code.name).observe(time.perf_counter() - started)

    return call


def _status_code(error: BaseException, context: Context) -> grpc.StatusCode:
    if isinstance(error, MeshError):
        return error.code
    if _is_missing(error, context):
        return grpc.StatusCode.UNIMPLEMENTED
    if isinstance(error, aio.AbortError):
        code = context.code()
        return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN
    if isinstance(error, Exception):
        return grpc.StatusCode.INTERNAL
    return grpc.StatusCode.CANCELLED


def _is_missing(error: BaseException, context: Context) -> bool:
    """Whether a servicer lacks the method: the generated one sets the code and raises the error."""
    if not isinstance(error, NotImplementedError):
        return False
    return context.code() in (grpc.StatusCode.UNIMPLEMENTED, *grpc.StatusCode.UNIMPLEMENTED.value)


async def _abort_call(method: str, context: Context, error: BaseException) -> NoReturn:
    if isinstance(error, MeshError):
        await abort(context, error)
    if _is_missing(error, context):
        await abort(context, Unimplemented(f"this release does not have {method} here"))
    if isinstance(error, aio.AbortError) or not isinstance(error, Exception):
        raise error
    # The caller gets an id to quote; the log has the traceback under that id.
    incident = uuid.uuid4().hex[:12]
    log.error("call failed", exc_info=error, extra={"method": method, "incident": incident})
    await context.abort(grpc.StatusCode.INTERNAL, f"internal error; the log has it as {incident}")
