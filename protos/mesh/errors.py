"""A class of errors for each gRPC code."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

_DETAILS_KEY = "grpc-status-details-bin"
_DETAIL_TYPES: tuple[type[Message], ...] = (
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    error_details_pb2.ErrorInfo,
)


class MeshError(Exception):
    """A call failed. `str(error)` is the mesh's message, which says what to do about it.

    `code` is the gRPC code, `details` are the messages of google.rpc that came with the error.
    """

    code: grpc.StatusCode = grpc.StatusCode.UNKNOWN

    def __init__(self, message: str, details: tuple[Message, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.details = details

    @property
    def fields(self) -> dict[str, str]:
        """Fields of the request that broke a rule, each with a sentence about the rule."""
        return {
            violation.field: violation.description
            for detail in self.details
            if isinstance(detail, error_details_pb2.BadRequest)
            for violation in detail.field_violations
        }

    @property
    def retry_after_s(self) -> float | None:
        """Seconds after which to try again; None when the error has no retry delay."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.RetryInfo):
                delay: float = detail.retry_delay.ToTimedelta().total_seconds()
                return delay
        return None

    @property
    def reason(self) -> str:
        """A constant for programs, for example PREPARE_FAILED; empty when there is none."""
        for detail in self.details:
            if isinstance(detail, error_details_pb2.ErrorInfo):
                reason: str = detail.reason
                return reason
        return ""


class InvalidArgument(MeshError):
    """A field of the request breaks a rule; see `fields`."""

    code = grpc.StatusCode.INVALID_ARGUMENT


class NotFound(MeshError):
    """There is no such model, job or version."""

    code = grpc.StatusCode.NOT_FOUND


class AlreadyExists(MeshError):
    """Another request has the same request id."""

    code = grpc.StatusCode.ALREADY_EXISTS


class FailedPrecondition(MeshError):
    """Something else has to happen first; the message says what."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(MeshError):
    """A step failed and nothing was changed; see `reason`."""

    code = grpc.StatusCode.ABORTED


class ResourceExhausted(MeshError):
    """The mesh is overloaded; try again after `retry_after_s`."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(MeshError):
    """A part of the mesh cannot be reached; the same request may be sent again."""

    code = grpc.StatusCode.UNAVAILABLE


class DeadlineExceeded(MeshError):
    """The answer did not come in time."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED


class Cancelled(MeshError):
    """The call was cancelled."""

    code = grpc.StatusCode.CANCELLED


class Unimplemented(MeshError):
    """The mesh has no such method."""

    code = grpc.StatusCode.UNIMPLEMENTED


class PermissionDenied(MeshError):
    """The caller may not do this."""

    code = grpc.StatusCode.PERMISSION_DENIED


class Unauthenticated(MeshError):
    """The caller has not authenticated itself."""

    code = grpc.StatusCode.UNAUTHENTICATED


class OutOfRange(MeshError):
    """A value is out of its range."""

    code = grpc.StatusCode.OUT_OF_RANGE


class DataLoss(MeshError):
    """Data is lost."""

    code = grpc.StatusCode.DATA_LOSS


class Internal(MeshError):
    """The mesh has a fault; the message names an id, under which the service's log has details."""

    code = grpc.StatusCode.INTERNAL


_CLASSES = {cls.code: cls for cls in MeshError.__subclasses__()}


def from_status(status: status_pb2.Status) -> MeshError:
    """Make an error of a google.rpc.Status, such as PredictStream sends for one request."""
    code = next(
        (code for code in grpc.StatusCode if code.value[0] == status.code),
        grpc.StatusCode.UNKNOWN,
    )
    return _CLASSES.get(code, MeshError)(status.message, _details(status))


def from_rpc_error(error: grpc.RpcError) -> MeshError:
    """Make an error of an error that a sync or async call of grpc raised."""
    # A sync error is also a grpc.Call, an async one is an AioRpcError: both have these methods.
    call: Any = error
    code: grpc.StatusCode = call.code()
    message = call.details() or code.name
    status = status_pb2.Status()
    for key, value in call.trailing_metadata() or ():
        if key == _DETAILS_KEY:
            status.ParseFromString(value)
    return _CLASSES.get(code, MeshError)(message, _details(status))


def _details(status: status_pb2.Status) -> tuple[Message, ...]:
    found: list[Message] = []
    for packed in status.details:
        for cls in _DETAIL_TYPES:
            message = cls()
            if packed.Unpack(message):
                found.append(message)
    return tuple(found)
