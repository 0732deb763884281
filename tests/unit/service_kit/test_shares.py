"""What one caller may hold at a time."""

from typing import Any, cast

import pytest

from service_kit.callers.shares import Shares, caller_of
from service_kit.errors import Exhausted
from service_kit.interceptor import Context


class _Call:
    def __init__(self, **headers: str) -> None:
        self._headers = [(name.replace("_", "-"), value) for name, value in headers.items()]

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return self._headers


def call(**headers: str) -> Context:
    return cast(Context, cast(Any, _Call(**headers)))


@pytest.mark.parametrize(
    ("headers", "caller"),
    [
        ({"x_mesh_subject": "ann", "x_forwarded_for": "10.0.0.1"}, "subject ann"),
        ({"x_forwarded_for": "10.0.0.1"}, "address 10.0.0.1"),
        # A client's own words stand before what Envoy adds.
        ({"x_forwarded_for": "1.2.3.4, 10.0.0.1"}, "address 10.0.0.1"),
        ({"x_forwarded_for": "1.2.3.4,2001:db8::1"}, "address 2001:db8::1"),
        ({"x_forwarded_for": "127.0.0.1"}, ""),
        ({"x_forwarded_for": "::1"}, ""),
        ({"x_forwarded_for": "nonsense"}, ""),
        ({}, ""),
    ],
)
def test_who_calls(headers: dict[str, str], caller: str) -> None:
    assert caller_of(call(**headers)) == caller


def test_a_caller_that_has_its_share_is_refused_and_others_are_not() -> None:
    shares = Shares("imports", 2)
    ann, bob = call(x_mesh_subject="ann"), call(x_mesh_subject="bob")
    with shares.held(ann), shares.held(ann):
        with (
            pytest.raises(Exhausted, match=r"subject ann.* 2 imports") as refused,
            shares.held(ann),
        ):
            pytest.fail("a third one is refused")
        assert refused.value.retry_after_s > 0
        with shares.held(bob):
            assert len(shares) == 2
    with shares.held(ann):
        assert len(shares) == 1
    assert len(shares) == 0, "callers that hold nothing are forgotten"


def test_callers_that_cannot_be_told_apart_have_no_shares() -> None:
    shares, nobody = Shares("imports", 1), call()
    with shares.held(nobody), shares.held(nobody):
        assert len(shares) == 1


def test_all_callers_together_have_their_room() -> None:
    room = Shares("bytes", 6, 10)
    room.take("a", 6)
    with pytest.raises(Exhausted, match="all callers together"):
        room.take("b", 5)
    with pytest.raises(Exhausted, match=r"this caller \(a\)"):
        room.take("a", 1)
    room.take("b", 4)
    room.give_back("a", 6)
    room.take("b", 2)
    room.give_back("b", 6)
    assert len(room) == 0


def test_a_refused_caller_is_forgotten() -> None:
    room = Shares("bytes", 1, 1)
    for number in range(100):
        with pytest.raises(Exhausted):
            room.take(f"caller {number}", 2)
    assert len(room) == 0
