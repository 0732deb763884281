"""Takes models out whose computations fail, and back when they work. Lives on the event loop."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from inference_svc.batching.batcher import Batcher
from inference_svc.engines.base import Engine
from inference_svc.model.loaded_model import LoadedModel
from inference_svc.serving.slots import ServedVersion, Slots
from inference_svc.serving.upcoming_versions import UpcomingVersions
from inference_svc.versions.golden_check import check_golden_set
from service_kit.errors import MeshError

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
# Longest check of the engine or of a model, seconds.
CHECK_S = 60.0
# A model that fails this many checks is loaded anew, and again after each further one.
CHECKS_BEFORE_LOADING = 2


class Withdrawals:
    """Withdraws single models, and declares trouble when the engine itself is the cause."""

    def __init__(
        self,
        slots: Slots,
        upcoming: UpcomingVersions,
        batcher: Batcher,
        engine: Engine,
        declare: Callable[[str], None],
        first_pause_s: float = FIRST_PAUSE_S,
        check_s: float = CHECK_S,
    ) -> None:
        """`declare` takes the whole replica out; see Trouble."""
        self._slots = slots
        self._upcoming = upcoming
        self._batcher = batcher
        self._engine = engine
        self._declare = declare
        self._first_pause_s = first_pause_s
        self._check_s = check_s
        # A thread of its own: the one that prepares versions may be busy for minutes.
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="check")
        self._tasks: set[asyncio.Task[None]] = set()
        self._checking_engine = False

    def model_failed(self, model: LoadedModel, why: str) -> None:
        """Withdraw a model that computes nothing any more; the queue refuses its texts already."""
        served = self._serving(model)
        for version in served:
            version.withdrawn = why
            log.error(
                "model withdrawn",
                extra={"model": version.slot.model, "version": version.version, "why": why},
            )
        if not served:
            return
        failing = {one.slot.model for one in self._slots.all_served() if one.withdrawn}
        if len(failing) > 1:
            self._declare(f"the computations of several models fail: {', '.join(sorted(failing))}")
            return
        self.suspect_engine()
        self._start(self._recover(model))

    def suspect_engine(self) -> None:
        """Check the engine itself, unless that is under way; trouble is declared if it fails."""
        if not self._checking_engine:
            self._checking_engine = True
            self._start(self._check_engine())

    def close(self) -> None:
        """Stop checking."""
        for task in self._tasks:
            task.cancel()
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _serving(self, model: LoadedModel) -> list[ServedVersion]:
        return [one for one in self._slots.all_served() if one.prepared.model is model]

    async def _check_engine(self) -> None:
        failure = await self._failure(self._engine.check)
        self._checking_engine = False
        if failure:
            self._declare(f"the engine computes nothing any more: {failure}")

    async def _recover(self, model: LoadedModel) -> None:
        """Take a model back when it works again, or load its version anew; with growing pauses."""
        pause_s, checks = self._first_pause_s, 0
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            served = self._serving(model)
            if not served:
                return
            failure = await self._failure(partial(check_golden_set, model))
            if not failure:
                self._batcher.queue.accept(model)
                for version in self._serving(model):
                    version.withdrawn = ""
                    log.warning("model taken back", extra={"model": version.slot.model})
                return
            checks += 1
            if checks >= CHECKS_BEFORE_LOADING:
                for version in served:
                    await self._load_anew(version)

    async def _load_anew(self, served: ServedVersion) -> None:
        slot = served.slot
        if any(upcoming.slot == slot for upcoming in self._upcoming.all()):
            return  # the slot gets another version, which this one may not drop
        try:
            prepared = await self._upcoming.prepare(slot, served.id)
        except MeshError as error:
            self._upcoming.drop(slot, served.version)
            served.withdrawn = f"it computes nothing, and cannot be loaded anew: {error}"[:500]
            self.suspect_engine()
            return
        if self._slots.served(slot) is served and self._upcoming.take(slot, *_key(served)):
            self._slots.swap(slot, prepared)
            log.warning("model loaded anew", extra={"model": slot.model})

    async def _failure(self, check: Callable[[], None]) -> str:
        """Run a check in the thread for checks; return what is wrong, or an empty text."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._check_s):
                await loop.run_in_executor(self._executor, check)
        except TimeoutError:
            why = f"a small computation has taken more than {self._check_s:.0f} s"
            self._declare(why)
            return why
        except Exception as error:
            return f"{type(error).__name__}: {error}"[:300]
        return ""


def _key(served: ServedVersion) -> tuple[str, str]:
    return served.id.number, served.id.source
