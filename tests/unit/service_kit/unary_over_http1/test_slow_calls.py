"""Envoy is told about calls that a server is slow with, and not about those that hang."""

import time

from service_kit.unary_over_http1.context import UnaryContext
from service_kit.unary_over_http1.slow_calls import STALLED_HEADER, SlowCalls

LIMIT_S = 8.0
SLOW_S = 5.0


class Calls:
    """Calls of one server, as `SlowCalls` sees them."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.slow_calls = SlowCalls()
        self.slow_calls.progressed = self.progressed
        self.idle_s = 0.0

    def progressed(self, seconds: float) -> bool:
        return self.idle_s < seconds

    def begin(self, name: str, limit: bytes = b"8000") -> None:
        context = UnaryContext({STALLED_HEADER: limit} if limit else {}, 0.0)
        self.slow_calls.begin(name, context, lambda written: self.tell(name, written))

    def tell(self, name: str, written: bytes) -> None:
        assert written == b"HTTP/1.1 102 Processing\r\n\r\n"
        self.told.append(name)

    def look(self, after_s: float) -> None:
        self.slow_calls.look(time.monotonic() + after_s)


def test_a_slow_call_is_vouched_for_once_before_the_limit() -> None:
    calls = Calls()
    calls.begin("a")
    calls.look(after_s=1)
    assert calls.told == []
    calls.look(after_s=SLOW_S)
    calls.look(after_s=LIMIT_S)
    assert calls.told == ["a"]


def test_a_server_that_gets_on_with_nothing_vouches_for_nothing() -> None:
    calls = Calls()
    calls.begin("a")
    calls.idle_s = LIMIT_S
    calls.look(after_s=SLOW_S)
    assert calls.told == []
    calls.idle_s = 0
    calls.look(after_s=SLOW_S + 1)
    assert calls.told == ["a"]


def test_an_answered_call_is_not_spoken_of() -> None:
    calls = Calls()
    calls.begin("a")
    calls.slow_calls.end("a")
    calls.look(after_s=LIMIT_S)
    assert calls.told == []


def test_a_call_that_envoy_gives_to_no_other_server_needs_no_word() -> None:
    calls = Calls()
    for name, limit in (("none", b""), ("no number", b"soon"), ("too long", b"9" * 400)):
        calls.begin(name, limit)
    calls.look(after_s=1e9)
    assert calls.told == []
