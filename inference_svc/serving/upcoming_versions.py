"""Versions on their way into a slot. Lives on the event loop; the work runs in a thread."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum

from inference_svc.serving.slots import Slot
from inference_svc.versions.preparer import (
    PREPARE_FAILED,
    PreparedVersion,
    PrepareFailed,
    Preparer,
)
from inference_svc.versions.progress import Dropped, Progress
from service_kit.errors import Aborted

log = logging.getLogger(__name__)


class State(Enum):
    """How far a preparation is."""

    PREPARING = "preparing"
    READY = "ready"
    FAILED = "failed"


@dataclass(eq=False)
class Preparation:
    """One version on its way into one slot."""

    slot: Slot
    version: str
    outcome: asyncio.Future[PreparedVersion]
    progress: Progress = field(default_factory=Progress)

    @property
    def state(self) -> State:
        """How far it is."""
        if not self.outcome.done():
            return State.PREPARING
        return State.FAILED if self.outcome.exception() else State.READY


class Preparations:
    """Prepares versions, one at a time; those who want the same one share its preparation."""

    def __init__(self, preparer: Preparer, executor: Executor, freed: Callable[[], None]) -> None:
        """`freed` is called when a prepared version was dropped."""
        self._preparer = preparer
        self._executor = executor
        self._freed = freed
        self._known: dict[tuple[Slot, str], Preparation] = {}
        self._running: set[asyncio.Task[None]] = set()

    def all(self) -> list[Preparation]:
        """Every preparation, failed ones included, ordered by slot."""
        return sorted(self._known.values(), key=lambda found: (found.slot, found.version))

    async def prepare(
        self,
        slot: Slot,
        version: str,
        executor: Executor | None = None,
        trust_cache: bool = False,
    ) -> PreparedVersion:
        """Return the version when it is ready; the slot's other preparations are dropped.

        Raises PrepareFailed or PrepareUnavailable, and Aborted when it is dropped meanwhile. A
        cancelled call leaves the preparation running: somebody else may want it.
        """
        known = self._known.get((slot, version))
        if known is None or known.state is State.FAILED:
            self.drop(slot, because=f"version {version} was asked for")
            known = self._start(slot, version, executor or self._executor, trust_cache)
        return await asyncio.shield(known.outcome)

    def adopt(self, slot: Slot, prepared: PreparedVersion) -> None:
        """Have a version ready that is in memory already; the slot's other ones are dropped."""
        version = prepared.info.version
        self.drop(slot, because=f"version {version} was asked for")
        outcome: asyncio.Future[PreparedVersion] = asyncio.get_running_loop().create_future()
        outcome.set_result(prepared)
        self._known[(slot, version)] = Preparation(slot, version, outcome)

    def take(self, slot: Slot, version: str) -> PreparedVersion | None:
        """Hand out a version that is ready, and drop the slot's others; None if it is not."""
        known = self._known.get((slot, version))
        if known is None or known.state is not State.READY:
            return None
        del self._known[(slot, version)]
        self.drop(slot, because=f"version {version} was activated")
        return known.outcome.result()

    def drop(self, slot: Slot, version: str | None = None, because: str = "it was aborted") -> None:
        """Drop one version of a slot, or all of them."""
        for key in [key for key in self._known if key[0] == slot and version in (None, key[1])]:
            dropped = self._known.pop(key)
            dropped.progress.drop()
            if dropped.outcome.done():
                self._freed()
            else:
                _resolve_with_error(
                    dropped,
                    Aborted(
                        f"version {dropped.version} of {slot.model} was dropped: {because}",
                        PREPARE_FAILED,
                        step=dropped.progress.step,
                    ),
                )

    def close(self) -> None:
        """Drop everything."""
        for slot in {slot for slot, _ in self._known}:
            self.drop(slot, because="this replica is shutting down")

    def versions(self, model: str) -> Collection[str]:
        """Versions of a model that are prepared or being prepared."""
        return {version for slot, version in self._known if slot.model == model}

    def _start(
        self, slot: Slot, version: str, executor: Executor, trust_cache: bool
    ) -> Preparation:
        outcome = asyncio.get_running_loop().create_future()
        started = Preparation(slot, version, outcome)
        self._known[(slot, version)] = started
        task = asyncio.create_task(self._run(started, executor, trust_cache))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return started

    async def _run(self, run: Preparation, executor: Executor, trust_cache: bool) -> None:
        about = {"model": run.slot.model, "role": run.slot.role, "version": run.version}
        started = time.perf_counter()
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(
                executor,
                lambda: self._preparer.prepare(
                    run.slot.model, run.version, run.progress, trust_cache
                ),
            )
        except Dropped:
            log.info("preparation dropped", extra=about)
        except PrepareFailed as error:
            log.warning("preparation failed", extra=about | {"why": str(error)})
            _resolve_with_error(run, error)
        else:
            ms = (time.perf_counter() - started) * 1e3
            log.info("version ready", extra=about | {"prepare_ms": round(ms, 1)})
            if run.outcome.done():
                self._freed()
            else:
                run.outcome.set_result(prepared)


def _resolve_with_error(run: Preparation, error: Exception) -> None:
    if not run.outcome.done():
        run.outcome.set_exception(error)
        # Retrieved, or the event loop would complain when nobody awaits it any more.
        run.outcome.exception()
