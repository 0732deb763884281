"""Makes the switches that were promised and did not happen: the run that promoted a version was
stopped before its Reload, or a rollback was broken off."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from control_plane.models.serving_gap import Gap, GapKind, gap_of
from service_kit.errors import MeshError
from service_kit.model_registry.records import RegisteredModel

log = logging.getLogger(__name__)

# Seconds after a promotion in which its own run may switch the fleet.
GRACE_S = 3.0
FIRST_PAUSE_S = 2.0
# An attempt makes replicas load a version, so a version that cannot be served is tried rarely.
MAX_PAUSE_S = 300.0


@dataclass
class _Attempts:
    """The attempts to close one gap."""

    gap: Gap
    due_at: float
    """The loop's time before which nothing is tried."""

    failures: int = 0
    why: str = ""
    """Error of the latest attempt; empty: none has failed."""

    task: asyncio.Task[None] | None = field(default=None, repr=False)


class PendingSwitches:
    """At most one attempt for each model at a time, with growing pauses while it fails.

    It keeps nothing that a restart would miss: the gaps are in the registry.
    """

    def __init__(
        self, close_gap: Callable[[str], Awaitable[None]], grace_s: float = GRACE_S
    ) -> None:
        """`close_gap(model)` makes the switch if it is still to be made."""
        self._close_gap = close_gap
        self._grace_s = grace_s
        self._attempts: dict[str, _Attempts] = {}

    @property
    def running(self) -> list[asyncio.Task[None]]:
        """The attempts that have not ended."""
        return [each.task for each in self._attempts.values() if each.task]

    def look_at(self, model: RegisteredModel) -> None:
        """Make the model's switch if it is due. No change of the model is running."""
        gap = gap_of(model)
        if gap is None or gap.kind not in (GapKind.PENDING, GapKind.ROLLBACK):
            self.forget(model.name)
            return
        known = self._attempts.get(model.name)
        if known is None or known.gap != gap:
            self.forget(model.name)
            known = self._attempts[model.name] = _Attempts(gap, self._due_at(gap))
        if known.task is None and asyncio.get_running_loop().time() >= known.due_at:
            known.task = asyncio.create_task(self._attempt(model.name, known))

    def why(self, model: str) -> str:
        """Return the error of the latest attempt to make a model's switch; empty: none failed."""
        known = self._attempts.get(model)
        return known.why if known else ""

    def forget(self, model: str) -> None:
        """Forget the attempts for a model; one that is running goes on."""
        known = self._attempts.get(model)
        if known is not None and known.task is None:
            del self._attempts[model]

    async def close(self) -> None:
        """Cancel every attempt."""
        running = self.running
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _due_at(self, gap: Gap) -> float:
        waited_s = (datetime.now(UTC) - gap.since).total_seconds() if gap.since else 0.0
        # The clock that wrote the moment may be another one than this machine's.
        left_s = self._grace_s - min(max(waited_s, 0.0), self._grace_s)
        return asyncio.get_running_loop().time() + left_s

    async def _attempt(self, model: str, known: _Attempts) -> None:
        try:
            await self._close_gap(model)
            known.failures, known.why = 0, ""
        except MeshError as error:
            known.failures += 1
            known.why = str(error)
            extra = {"model": model, "why": known.why, "failures": known.failures}
            log.warning("the switch is not made yet", extra=extra)
        finally:
            known.task = None
            pause_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(known.failures, 10))
            known.due_at = asyncio.get_running_loop().time() + pause_s
