"""Versions that are prepared for a slot. Lives on the event loop; a thread does the work."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Executor
from dataclasses import dataclass, field
from enum import Enum

from inference_svc.serving.slots import SlotKey
from inference_svc.versions.identity import VersionId
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
    id: VersionId
    outcome: asyncio.Future[PreparedVersion]
    progress: Progress = field(default_factory=Progress)

    @property
    def version(self) -> str:
        """Number of the version."""
        return self.id.number

    @property
    def run_id(self) -> str:
        """MLflow run of the version; empty before it is ready."""
        return self.outcome.result().info.run_id if self.state is State.READY else ""

    @property
    def error(self) -> str:
        """Why the preparation failed; empty unless it has."""
        failed = self.outcome.exception() if self.outcome.done() else None
        return str(failed) if failed else ""

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
        self._upcoming: dict[tuple[SlotKey, VersionId], UpcomingVersion] = {}
        self._running: set[asyncio.Task[None]] = set()

    def all(self) -> list[UpcomingVersion]:
        """Every upcoming version, failed ones included, ordered by slot."""
        return sorted(self._upcoming.values(), key=lambda upcoming: (upcoming.slot, upcoming.id))

    def failed(self, slot: SlotKey) -> UpcomingVersion | None:
        """The version of a slot that could not be prepared, if there is one."""
        of_slot = (upcoming for upcoming in self._upcoming.values() if upcoming.slot == slot)
        return next((one for one in of_slot if one.state is State.FAILED), None)

    async def prepare(
        self, slot: SlotKey, version: VersionId, executor: Executor | None = None
    ) -> PreparedVersion:
        """Return the version when it is ready; the slot's other upcoming versions are dropped.

        Raises PrepareFailed or PrepareUnavailable, and Aborted when the version is dropped
        meanwhile. A cancelled call leaves the preparation running: another call may wait for it.
        """
        upcoming = self._upcoming.get((slot, version))
        if upcoming is None or upcoming.state is State.FAILED:
            upcoming = self._start(slot, version, executor or self._executor)
        return await asyncio.shield(upcoming.outcome)

    def adopt(self, slot: SlotKey, prepared: PreparedVersion) -> None:
        """Take in a version that another slot has in memory; it is ready at once.

        The slot's other upcoming versions are dropped.
        """
        self._add(slot, prepared.info.id).set_result(prepared)

    def refuse(self, slot: SlotKey, version: VersionId, error: PrepareFailed, step: str) -> None:
        """Remember that a version could not be prepared; the slot's others are dropped."""
        outcome = self._add(slot, version)
        self._upcoming[(slot, version)].progress.step = step
        _fail(outcome, error)

    def take(self, slot: SlotKey, version: str, source: str = "") -> PreparedVersion | None:
        """Hand out a version and drop the slot's others; None when the version is not ready.

        An empty source stands for any: a slot has at most one version that is not dropped.
        """
        for key, upcoming in self._upcoming.items():
            wanted = key == (slot, VersionId(version, source or upcoming.id.source))
            if wanted and upcoming.state is State.READY:
                del self._upcoming[key]
                self.drop(slot, because=f"version {version} was activated")
                return upcoming.outcome.result()
        return None

    def drop(
        self,
        slot: SlotKey,
        version: str = "",
        source: str = "",
        because: str = "it was aborted",
    ) -> None:
        """Drop the upcoming versions of a slot: those with this number and this source.

        An empty number or source stands for any, and a source that could not be found out for every
        one; `because` ends the error text.
        """
        keys = [
            key
            for key in self._upcoming
            if key[0] == slot
            and version in ("", key[1].number)
            and (not source or key[1].source in ("", source))
        ]
        for key in keys:
            dropped = self._upcoming.pop(key)
            dropped.progress.drop()
            if dropped.outcome.done():
                self._freed()
            else:
                _fail(
                    dropped.outcome,
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

    def versions(self, model: str) -> Collection[VersionId]:
        """Versions of a model that are prepared, being prepared, or could not be."""
        return {version for slot, version in self._upcoming if slot.model == model}

    def _add(self, slot: SlotKey, version: VersionId) -> asyncio.Future[PreparedVersion]:
        """Let a slot have this upcoming version only; returns its outcome, which is open."""
        self.drop(slot, because=f"version {version.number} was asked for")
        outcome: asyncio.Future[PreparedVersion] = asyncio.get_running_loop().create_future()
        self._upcoming[(slot, version)] = UpcomingVersion(slot, version, outcome)
        return outcome

    def _start(self, slot: SlotKey, version: VersionId, executor: Executor) -> UpcomingVersion:
        self._add(slot, version)
        upcoming = self._upcoming[(slot, version)]
        task = asyncio.create_task(self._run(upcoming, executor))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return upcoming

    async def _run(self, upcoming: UpcomingVersion, executor: Executor) -> None:
        fields = {
            "model": upcoming.slot.model,
            "role": upcoming.slot.role,
            "version": upcoming.version,
        }
        started = time.perf_counter()
        try:
            prepared = await asyncio.get_running_loop().run_in_executor(
                executor,
                lambda: self._preparer.prepare(upcoming.slot.model, upcoming.id, upcoming.progress),
            )
        except Dropped:
            log.info("preparation dropped", extra=fields)
        except PrepareFailed as error:
            log.warning("preparation failed", extra=fields | {"why": str(error)})
            _fail(upcoming.outcome, error)
        except Exception as error:
            # Nobody may wait for ever for an outcome that does not come.
            log.exception("preparation failed", extra=fields)
            step = upcoming.progress.step
            _fail(upcoming.outcome, PrepareFailed(type(error).__name__, step))
        else:
            ms = (time.perf_counter() - started) * 1e3
            log.info("version ready", extra=fields | {"prepare_ms": round(ms, 1)})
            if upcoming.outcome.done():
                self._freed()
            else:
                upcoming.outcome.set_result(prepared)


def _fail(outcome: asyncio.Future[PreparedVersion], error: Exception) -> None:
    if not outcome.done():
        outcome.set_exception(error)
        # Reading the error marks it as retrieved. Otherwise asyncio would log it when no call waits
        # for this version any more.
        outcome.exception()
