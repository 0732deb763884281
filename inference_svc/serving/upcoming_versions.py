"""Versions that are prepared for a slot. Lives on the event loop; a thread does the work."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum

from inference_svc.serving.slots import SlotKey
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
    """How far the preparation of a version is."""

    PREPARING = "preparing"
    READY = "ready"
    FAILED = "failed"


@dataclass(eq=False)
class UpcomingVersion:
    """A version that is prepared, or being prepared, for one slot."""

    slot: SlotKey
    version: str
    outcome: asyncio.Future[PreparedVersion]
    progress: Progress = field(default_factory=Progress)

    @property
    def state(self) -> State:
        """How far the preparation is."""
        if not self.outcome.done():
            return State.PREPARING
        return State.FAILED if self.outcome.exception() else State.READY


class UpcomingVersions:
    """Prepares versions, one at a time. Calls for the same version and slot share a preparation."""

    def __init__(self, preparer: Preparer, executor: Executor, freed: Callable[[], None]) -> None:
        """`freed` is called when a prepared version was dropped."""
        self._preparer = preparer
        self._executor = executor
        self._freed = freed
        self._upcoming: dict[tuple[SlotKey, str], UpcomingVersion] = {}
        self._running: set[asyncio.Task[None]] = set()

    def all(self) -> list[UpcomingVersion]:
        """Every upcoming version, failed ones included, ordered by slot."""
        return sorted(
            self._upcoming.values(), key=lambda upcoming: (upcoming.slot, upcoming.version)
        )

    async def prepare(
        self,
        slot: SlotKey,
        version: str,
        executor: Executor | None = None,
        trust_cache: bool = False,
    ) -> PreparedVersion:
        """Return the version when it is ready; the slot's other upcoming versions are dropped.

        Raises PrepareFailed or PrepareUnavailable, and Aborted when the version is dropped
        meanwhile. A cancelled call leaves the preparation running: another call may wait for it.
        """
        upcoming = self._upcoming.get((slot, version))
        if upcoming is None or upcoming.state is State.FAILED:
            self.drop(slot, because=f"version {version} was asked for")
            upcoming = self._start(slot, version, executor or self._executor, trust_cache)
        return await asyncio.shield(upcoming.outcome)

    def adopt(self, slot: SlotKey, prepared: PreparedVersion) -> None:
        """Take in a version that another slot has in memory; it is ready at once.

        The slot's other upcoming versions are dropped.
        """
        version = prepared.info.version
        self.drop(slot, because=f"version {version} was asked for")
        outcome: asyncio.Future[PreparedVersion] = asyncio.get_running_loop().create_future()
        outcome.set_result(prepared)
        self._upcoming[(slot, version)] = UpcomingVersion(slot, version, outcome)

    def take(self, slot: SlotKey, version: str) -> PreparedVersion | None:
        """Hand out a version and drop the slot's others; None when the version is not ready."""
        upcoming = self._upcoming.get((slot, version))
        if upcoming is None or upcoming.state is not State.READY:
            return None
        del self._upcoming[(slot, version)]
        self.drop(slot, because=f"version {version} was activated")
        return upcoming.outcome.result()

    def drop(
        self, slot: SlotKey, version: str | None = None, because: str = "it was aborted"
    ) -> None:
        """Drop one upcoming version of a slot, or all of them; `because` ends the error text."""
        for key in [key for key in self._upcoming if key[0] == slot and version in (None, key[1])]:
            dropped = self._upcoming.pop(key)
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
        for slot in {slot for slot, _ in self._upcoming}:
            self.drop(slot, because="this replica is shutting down")

    def versions(self, model: str) -> Collection[str]:
        """Versions of a model that are prepared or being prepared."""
        return {version for slot, version in self._upcoming if slot.model == model}

    def _start(
        self, slot: SlotKey, version: str, executor: Executor, trust_cache: bool
    ) -> UpcomingVersion:
        outcome = asyncio.get_running_loop().create_future()
        upcoming = UpcomingVersion(slot, version, outcome)
        self._upcoming[(slot, version)] = upcoming
        task = asyncio.create_task(self._run(upcoming, executor, trust_cache))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return upcoming

    async def _run(self, upcoming: UpcomingVersion, executor: Executor, trust_cache: bool) -> None:
        fields = {
            "model": upcoming.slot.model,
            "role": upcoming.slot.role,
            "version": upcoming.version,
        }
        started = time.perf_counter()
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(
                executor,
                lambda: self._preparer.prepare(
                    upcoming.slot.model, upcoming.version, upcoming.progress, trust_cache
                ),
            )
        except Dropped:
            log.info("preparation dropped", extra=fields)
        except PrepareFailed as error:
            log.warning("preparation failed", extra=fields | {"why": str(error)})
            _resolve_with_error(upcoming, error)
        else:
            ms = (time.perf_counter() - started) * 1e3
            log.info("version ready", extra=fields | {"prepare_ms": round(ms, 1)})
            if upcoming.outcome.done():
                self._freed()
            else:
                upcoming.outcome.set_result(prepared)


def _resolve_with_error(upcoming: UpcomingVersion, error: Exception) -> None:
    if not upcoming.outcome.done():
        upcoming.outcome.set_exception(error)
        # Reading the error marks it as retrieved. Otherwise asyncio would log it when no call waits
        # for this version any more.
        upcoming.outcome.exception()
