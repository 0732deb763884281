"""Clients that call Predict without end and without retries, and count every failure."""

import asyncio
import time
from collections import Counter
from types import TracebackType

from grpc import aio

from mesh.client import AsyncMeshClient
from mesh.errors import MeshError

CLIENTS = 64
# Seconds between an answer and the client's next request; they leave the processors to the parts
# under test.
PAUSE_S = 1.0


class Clients:
    """`count` clients of one model, which call between entry and exit of the context manager.

    `failed` counts failed calls by their error, `slowest_s` is the longest wait for an answer.
    """

    def __init__(self, address: str, model: str, count: int = CLIENTS) -> None:
        self._address = address
        self._model = model
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []
        # When the latest call that was answered began, in seconds of time.monotonic.
        self._answered_call_began_s = 0.0
        self.answered = 0
        self.failed: Counter[str] = Counter()
        self.slowest_s = 0.0

    async def __aenter__(self) -> "Clients":
        self._tasks = [asyncio.create_task(self._ask(n)) for n in range(self._count)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """Set the counters to zero."""
        self.answered, self.slowest_s = 0, 0.0
        self.failed.clear()

    @property
    def seen(self) -> str:
        """Failures, calls and longest wait in words."""
        failed = f", {dict(self.failed)}" if self.failed else ""
        return (
            f"{self.failed.total()} of {self.answered + self.failed.total()} failed{failed}, "
            f"slowest {self.slowest_s:.1f} s"
        )

    async def answered_since(self, moment: float, timeout_s: float = 30.0) -> float:
        """Wait for the answer to a call that began after `moment`, in seconds of time.monotonic.

        Returns the seconds from `moment` to that answer, at most 10 ms too many.
        """
        async with asyncio.timeout(timeout_s):
            while self._answered_call_began_s <= moment:
                await asyncio.sleep(0.01)
        return time.monotonic() - moment

    async def _ask(self, number: int) -> None:
        await asyncio.sleep(PAUSE_S * number / self._count)
        async with AsyncMeshClient(channel=aio.insecure_channel(self._address)) as client:
            while True:
                began = time.monotonic()
                try:
                    await client.predict(self._model, "a lovely film")
                except MeshError as error:
                    self.failed[f"{error.code.name}: {error}"[:120]] += 1
                else:
                    self.answered += 1
                    self._answered_call_began_s = max(self._answered_call_began_s, began)
                    self.slowest_s = max(self.slowest_s, time.monotonic() - began)
                await asyncio.sleep(PAUSE_S)
