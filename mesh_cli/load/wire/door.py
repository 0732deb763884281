"""The seam between a load and the wire: a door sends bytes and tells how each was answered."""

from collections.abc import Callable
from typing import Protocol

OK = "OK"

# Called once for every request that was sent: the moment when it was due, OK or the name of the
# error, and the answer's bytes (of an error: its message).
Answered = Callable[[float, str, bytes], None]


class Door(Protocol):
    """One way to reach a server."""

    async def open(self) -> None:
        """Connect. Raises NotUp when nobody answers."""

    def send(self, request: bytes, due: float) -> None:
        """Send a request; never blocks, and never calls Answered before it has returned."""

    async def close(self) -> None:
        """Close every connection."""
