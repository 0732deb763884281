import grpc
from google.protobuf.any_pb2 import Any
from google.rpc import code_pb2, status_pb2

from mesh import errors as client_errors
from service_kit import errors as service_errors


def _received(error: service_errors.MeshError) -> client_errors.MeshError:
    """What the client makes of an error that a service raises."""
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


def test_every_grpc_code_has_a_readable_class() -> None:
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        error = client_errors.from_status(status_pb2.Status(code=code.value[0], message="m"))
        assert isinstance(error, client_errors.MeshError)
        assert error.message == "m"
        if code is not grpc.StatusCode.UNKNOWN:
            assert error.code is code


def test_unknown_details_are_left_out() -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="m", details=[Any(type_url="x/y")])
    assert client_errors.from_status(status).details == ()
