"""Finds out that a computation does not return. Lives on the event loop."""

import asyncio
import logging
from collections.abc import Callable, Hashable

from inference_svc.batching.batcher import Batcher
from inference_svc.serving.upcoming_versions import State, UpcomingVersions
from inference_svc.versions.preparer import DOWNLOAD

log = logging.getLogger(__name__)

# A second passes between two looks. Looks are counted, not the time: while the whole process
# stands still, as on a machine that sleeps, no look happens.
LOOK_S = 1.0
PREPARE_LOOKS = 600


class Watchdog:
    """Looks every LOOK_S seconds whether the same batch or step of a preparation still runs."""

    def __init__(
        self,
        batcher: Batcher,
        upcoming: UpcomingVersions,
        batch_looks: int,
        declare: Callable[[str], None],
    ) -> None:
        """`declare` is told what hangs: a batch after `batch_looks` looks, for example."""
        self._batcher = batcher
        self._upcoming = upcoming
        self._batch_looks = batch_looks
        self._declare = declare
        self._seen: dict[str, tuple[Hashable, int]] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Look once."""
        if not self._batcher.threads_work:
            self._declare("a thread that answers requests has ended; the log says why")
        if self._looks("batch", self._batcher.computing or None) >= self._batch_looks:
            self._declare(f"a batch has been computed for more than {self._batch_looks} s")
        looks = self._looks("step", self._step())
        if looks >= PREPARE_LOOKS:
            self._declare(f"a version has been loaded and checked for more than {looks} s")

    def _looks(self, name: str, seen: Hashable) -> int:
        """How often in a row the same thing has been seen; 0 for None."""
        before, looks = self._seen.get(name, (None, 0))
        looks = looks + 1 if seen is not None and seen == before else 0
        self._seen[name] = seen, looks
        return looks

    def _step(self) -> Hashable:
        """The step that a preparation is at, downloads excepted: they have limits of their own."""
        for upcoming in self._upcoming.all():
            step = upcoming.progress.step
            if upcoming.state is State.PREPARING and step not in ("", DOWNLOAD):
                return (upcoming.slot, upcoming.id, step)
        return None
