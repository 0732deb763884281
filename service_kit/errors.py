"""The errors of the mesh and the one place where they become gRPC statuses.

MeshError
├── InvalidArgument      bad input: names the field and its rule
├── NotFound             no such model, job, version
├── PermissionDenied     the caller's token is for other models: says which
├── FailedPrecondition   something else has to happen first: says what
├── Aborted              a step failed; nothing was changed
├── AlreadyExists        the id is taken by something else
├── Exhausted            too much work: says when to try again
├── Unimplemented        this release cannot do that: says what it can
├── DeadlineTooShort     the caller's deadline cannot be met
├── NotLeading           another control plane changes things: says which
└── Unavailable          a part is away or too slow: says when to try again
"""

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

ERROR_DOMAIN = "champion-mesh"


class MeshError(Exception):
    """Base of every error that a caller may see; `str(error)` is the caller's message."""

    code: grpc.StatusCode = grpc.StatusCode.INTERNAL

    def details(self) -> list[Message]:
        """Return the google.rpc detail messages that go with the status."""
        return []

    def status(self) -> Status:
        """Return this error as a google.rpc.Status."""
        packed = []
        for detail in self.details():
            item = Any()
            item.Pack(detail)
            packed.append(item)
        return Status(code=self.code.value[0], message=str(self), details=packed)


class InvalidArgument(MeshError):
    """A field of the request breaks a rule; the message names the field and the limit."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem

    def details(self) -> list[Message]:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=self.field, description=self.problem
        )
        return [error_details_pb2.BadRequest(field_violations=[violation])]


class NotFound(MeshError):
    """The model, job, version or batch that the request names does not exist."""

    code = grpc.StatusCode.NOT_FOUND


class PermissionDenied(MeshError):
    """The caller's token does not allow this; the message says what it allows."""

    code = grpc.StatusCode.PERMISSION_DENIED


class FailedPrecondition(MeshError):
    """The request is sound, but something else has to happen first; the message says what."""

    code = grpc.StatusCode.FAILED_PRECONDITION


class Aborted(MeshError):
    """A step failed and everything is as it was before; `reason` is for programs."""

    code = grpc.StatusCode.ABORTED

    def __init__(self, message: str, reason: str = "", **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = metadata

    def details(self) -> list[Message]:
        if not self.reason:
            return []
        return [
            error_details_pb2.ErrorInfo(
                reason=self.reason, domain=ERROR_DOMAIN, metadata=self.metadata
            )
        ]


class AlreadyExists(MeshError):
    """The id of the request belongs to something else already."""

    code = grpc.StatusCode.ALREADY_EXISTS


class _Retryable(MeshError):
    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s

    def details(self) -> list[Message]:
        delay = Duration()
        delay.FromNanoseconds(int(self.retry_after_s * 1e9))
        return [error_details_pb2.RetryInfo(retry_delay=delay)]


class Exhausted(_Retryable):
    """More work than the service takes; the error carries the delay after which to try again."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED


class Unavailable(_Retryable):
    """A part that the request needs is away or too slow; the same request may be sent again."""

    code = grpc.StatusCode.UNAVAILABLE


class NotLeading(_Retryable):
    """Another control plane leads; a later attempt may reach it, or find that this one leads."""

    code = grpc.StatusCode.UNAVAILABLE


class Unimplemented(MeshError):
    """This release cannot do what is asked; the message says what it can do."""

    code = grpc.StatusCode.UNIMPLEMENTED


class DeadlineTooShort(MeshError):
    """The work cannot end before the caller's deadline."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
