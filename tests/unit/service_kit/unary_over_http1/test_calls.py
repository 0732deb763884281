"""Calls to the unary server: their messages, errors and statuses, byte by byte."""

import base64

import pytest
from google.rpc.status_pb2 import Status

from service_kit.limits import MAX_MESSAGE_BYTES
from service_kit.unary_over_http1.wire import framed
from tests.unit.service_kit.unary_over_http1.echo_peer import call, listening, message


async def test_an_answer_has_a_message_and_then_its_status_in_trailers() -> None:
    async with listening() as peer:
        status, fields, body = await peer.ask(
            call(message("hello"), "grpc-timeout: 2S", "x-mesh-role: challenger")
        )
        assert (status, body) == ("HTTP/1.1 200 OK", message("hello"))
        assert fields["content-type"] == "application/grpc"
        assert (fields["grpc-status"], fields["x-mesh-version"]) == ("0", "7")
        assert fields["x-raw-bin"] == "AP8"
        assert peer.echo.metadata["x-mesh-role"] == "challenger"
        assert 0 < (peer.echo.seconds_left or 0) <= 2


async def test_a_call_without_a_deadline_has_none() -> None:
    async with listening() as peer:
        await peer.ask(call(message()))
        assert peer.echo.seconds_left is None


async def test_an_error_tells_its_message_and_details() -> None:
    async with listening() as peer:
        _, fields, body = await peer.ask(call(message("unknown")))
        assert (fields["grpc-status"], fields["content-length"], body) == ("5", "0", b"")
        assert fields["grpc-message"] == "there is no such thing: 100 %25%0Aat all, %C3%BC"
        encoded = fields["grpc-status-details-bin"]
        details = Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
        assert details.message == "there is no such thing: 100 %\nat all, ü"


async def test_a_defect_shows_nothing_of_itself() -> None:
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(message("broken")))
        assert fields["grpc-status"] == "13"
        assert fields["grpc-message"].startswith("internal error; the log has it as ")


@pytest.mark.parametrize(
    ("case", "body", "code"),
    [
        ("no message", b"", "3"),
        ("cut short", message()[:-1], "3"),
        ("too long", message() + b"x", "3"),
        ("not protobuf", framed(b"\xff\xff"), "3"),
        ("over the limit", framed(b"\0" * (MAX_MESSAGE_BYTES + 1)), "3"),
    ],
)
async def test_a_bad_message_is_refused(case: str, body: bytes, code: str) -> None:
    async with listening() as peer:
        status, fields, _ = await peer.ask(call(body))
        assert (status, fields["grpc-status"]) == ("HTTP/1.1 200 OK", code), case
        assert peer.echo.begun == 0


async def test_an_unknown_method_is_unimplemented() -> None:
    async with listening() as peer:
        _, fields, _ = await peer.ask(call(message(), path="/test.Echo/Other"))
        assert fields["grpc-status"] == "12"
