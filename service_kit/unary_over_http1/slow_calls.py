"""Tells Envoy which slow calls a server works on.

Envoy gives a call to another server as well when this one has not answered it after some time: over
HTTP/1.1 nothing else tells a slow server from one that hangs. A server that is only slow says so
with an informational response (102 Processing), which ends before the answer and which no client
sees. Envoy then leaves the call where it is, and tries it nowhere else even if this server fails.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from service_kit.unary_over_http1.context import UnaryContext

# Header in which Envoy says after how many milliseconds it asks another server as well.
STALLED_HEADER = b"x-mesh-stalled-after-ms"
# Parts of that time: a call of this age is vouched for, when the server has got on with its work
# within the second one.
_VOUCHED_AT = 0.6
_LATELY = 0.5
_LOOK_EVERY_S = 0.25
_PROCESSING = b"HTTP/1.1 102 Processing\r\n\r\n"


@dataclass(frozen=True)
class _Call:
    begun: float
    context: UnaryContext
    write: Callable[[bytes], None]


class SlowCalls:
    """The calls of one server that Envoy has not been told about."""

    def __init__(self) -> None:
        self.progressed: Callable[[float], bool] = lambda seconds: True
        """Returns whether the server has got on with its work, or had none, within this time."""

        self._calls: dict[object, _Call] = {}

    def begin(self, key: object, context: UnaryContext, write: Callable[[bytes], None]) -> None:
        """Note a call; `write` sends bytes to its caller. `key` is of no other call."""
        self._calls[key] = _Call(time.monotonic(), context, write)

    def end(self, key: object) -> None:
        """Forget a call, before its answer is sent."""
        self._calls.pop(key, None)

    async def watch(self) -> None:
        """Tell Envoy about slow calls until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            self.look(time.monotonic())

    def look(self, now: float) -> None:
        """Tell Envoy about the calls that are slow by now; `now` is in seconds of time.monotonic.

        Each call is vouched for once. A call that cannot be vouched for is looked at again.
        """
        for key, call in list(self._calls.items()):
            limit_s = _seconds(call.context.header(STALLED_HEADER))
            if limit_s is None:
                del self._calls[key]
            elif now - call.begun >= _VOUCHED_AT * limit_s and self.progressed(_LATELY * limit_s):
                del self._calls[key]
                call.write(_PROCESSING)


def _seconds(header: bytes) -> float | None:
    """Read the header; None: it is absent or no number."""
    return int(header) / 1000 if header.isdigit() and len(header) < 10 else None
