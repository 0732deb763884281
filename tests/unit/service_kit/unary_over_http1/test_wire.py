"""gRPC's encoding of messages, deadlines and statuses."""

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_kit.errors import InvalidArgument, MeshError
from service_kit.unary_over_http1.wire import status_lines, timeout_s, unframed


@given(st.binary(max_size=64))
def test_no_body_but_a_whole_message_is_taken(body: bytes) -> None:
    whole = len(body) >= 5 and int.from_bytes(body[1:5], "big") == len(body) - 5
    if not whole:
        with pytest.raises(InvalidArgument):
            unframed(body, "", 100)
    elif body[0]:
        with pytest.raises(MeshError) as refused:
            unframed(body, "", 100)
        assert refused.value.code is grpc.StatusCode.INTERNAL
    else:
        assert unframed(body, "", 100) == body[5:]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (b"2H", 7200.0),
        (b"3M", 180.0),
        (b"4S", 4.0),
        (b"250m", 0.25),
        (b"10u", 1e-5),
        (b"99999999n", 0.099999999),
        (b"", None),
        (b"S", None),
        (b"5", None),
        (b"-5S", None),
        (b"123456789S", None),
    ],
)
def test_deadlines_are_read(header: bytes, seconds: float | None) -> None:
    assert timeout_s(header) == (None if seconds is None else pytest.approx(seconds))


@given(st.text())
def test_no_message_breaks_out_of_its_line(text: str) -> None:
    lines = status_lines(grpc.StatusCode.NOT_FOUND, text)
    assert lines.count(b"\r\n") == (2 if text else 1)
    assert all(0x20 <= byte < 0x7F or byte in b"\r\n" for byte in lines)
