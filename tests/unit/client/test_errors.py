import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, status_pb2

from mesh import errors as client_errors
from service_kit import errors as service_errors


def _received(error: service_errors.MeshError) -> client_errors.MeshError:
    """The client's error for an error that a service raises."""
    return client_errors.from_status(error.status())


def test_invalid_argument_names_its_fields() -> None:
    error = _received(service_errors.InvalidArgument("texts", "is empty; send 1 to 1,024 texts"))
    assert isinstance(error, client_errors.InvalidArgument)
    assert error.fields == {"texts": "is empty; send 1 to 1,024 texts"}
    assert str(error) == "texts: is empty; send 1 to 1,024 texts"


def test_exhausted_carries_its_delay() -> None:
    error = _received(service_errors.Exhausted("the queue is full", 0.25))
    assert isinstance(error, client_errors.ResourceExhausted)
    assert error.retry_after_s == 0.25


def test_aborted_carries_its_reason() -> None:
    error = _received(service_errors.Aborted("no", reason="PREPARE_FAILED", step="download"))
    assert isinstance(error, client_errors.Aborted)
    assert error.reason == "PREPARE_FAILED"


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code.name != "OK"])
def test_every_grpc_code_has_a_class_of_its_own(code: grpc.StatusCode) -> None:
    error = client_errors.from_status(status_pb2.Status(code=code.value[0], message="m"))
    assert error.message == "m"
    assert error.code is code
    assert (type(error) is client_errors.MeshError) == (code is grpc.StatusCode.UNKNOWN)


def test_a_code_that_grpc_does_not_know_is_unknown() -> None:
    error = client_errors.from_status(status_pb2.Status(code=99, message="m"))
    assert error.code is grpc.StatusCode.UNKNOWN


def test_unknown_details_are_left_out() -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="m", details=[Any(type_url="x/y")])
    assert client_errors.from_status(status).details == ()
