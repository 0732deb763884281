"""Compares Challenger and Champion on mirrored requests, when the replica has time to spare."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from inference_svc.batching.batcher import Batcher
from inference_svc.batching.job import Lane
from inference_svc.serving.slots import ServedVersion, Slots
from service_kit.errors import MeshError

log = logging.getLogger(__name__)

MAX_PENDING = 8  # requests
MAX_WAIT_S = 5.0
# One comparison in this time does not give way; else a replica that is never idle would compare
# nothing.
URGENT_EVERY_S = 0.5


class Comparisons:
    """Has the Champion classify the texts of mirrored requests. Lives on the event loop.

    Nearly all of these texts wait in the background lane, which gets the engine only while no other
    text waits. Under load comparisons are dropped and counted as not compared: the canary needs a
    sample, not every request.
    """

    def __init__(
        self, batcher: Batcher, slots: Slots, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._batcher = batcher
        self._slots = slots
        self._clock = clock
        self._pending: set[asyncio.Task[None]] = set()
        self._next_urgent = 0.0

    def compare(
        self,
        challenger: ServedVersion,
        champion: ServedVersion,
        texts: Sequence[str],
        labels: Sequence[str],
        bucket: int | None = None,
    ) -> None:
        """Have the Champion label `texts`, which the Challenger gave `labels`; returns at once.

        `bucket` is the key bucket of the request.
        """
        lane = self._lane()
        if lane is Lane.BACKGROUND and len(self._pending) >= MAX_PENDING:
            challenger.stats.not_compared += 1
            return
        task = asyncio.create_task(self._compare(challenger, champion, texts, labels, lane, bucket))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def close(self) -> None:
        """Cancel the comparisons that are under way."""
        for task in self._pending:
            task.cancel()
        await asyncio.gather(*self._pending, return_exceptions=True)

    async def _compare(
        self,
        challenger: ServedVersion,
        champion: ServedVersion,
        texts: Sequence[str],
        labels: Sequence[str],
        lane: Lane,
        bucket: int | None,
    ) -> None:
        model = champion.prepared.model
        try:
            async with asyncio.timeout(MAX_WAIT_S):
                with self._slots.hold(champion):
                    answer = await self._batcher.classify(model, texts, lane)
        except (MeshError, TimeoutError) as error:
            log.debug("not compared", extra={"why": str(error) or "no time"})
            challenger.stats.not_compared += 1
            return
        names = model.spec.labels
        agreed = sum(
            names[column] == label for column, label in zip(answer.best, labels, strict=True)
        )
        challenger.stats.count_comparison(agreed, len(texts) - agreed, bucket)

    def _lane(self) -> Lane:
        now = self._clock()
        if now < self._next_urgent:
            return Lane.BACKGROUND
        self._next_urgent = now + URGENT_EVERY_S
        return Lane.INTERACTIVE
