"""The interface of the connections to a server, whatever protocol they speak."""

from collections.abc import Callable
from typing import Protocol

OK = "OK"

# The pool calls this once for every request: with the moment when the request was due, with OK or
# the name of the error, and with the bytes of the answer or of the error's message.
OnAnswer = Callable[[float, str, bytes], None]


class ConnectionPool(Protocol):
    """Sends requests to one server and reports how each was answered."""

    async def open(self) -> None:
        """Connect. Raises NotUp when no server answers."""

    def send(self, request: bytes, due: float) -> None:
        """Send a request. This never blocks, and returns before OnAnswer is called."""

    async def close(self) -> None:
        """Close every connection."""
