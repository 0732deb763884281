"""What a replica does that cannot compute at all: it says so, waits a while, and restarts."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from inference_svc.metrics import exported as metrics

log = logging.getLogger(__name__)

EXIT_CODE = 70
# Before it ends, the replica says NOT_SERVING for this time, seconds: Envoy and the control plane
# see it meanwhile. The time doubles with each such end within REMEMBERED_S.
FIRST_PAUSE_S = 3.0
LONGEST_PAUSE_S = 120.0
REMEMBERED_S = 900.0
_MOST_ENTRIES = 16


class PastTroubles:
    """A small file with the times at which this replica ended because it could not compute."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock

    def recent(self) -> list[float]:
        """The times of the last REMEMBERED_S seconds, at most _MOST_ENTRIES."""
        try:
            times = [float(entry) for entry in json.loads(self._path.read_text())]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError):
            log.warning("unreadable, ignored", extra={"file": str(self._path)})
            return []
        now = self._clock()
        return [entry for entry in times if now - REMEMBERED_S < entry <= now][-_MOST_ENTRIES:]

    def add(self) -> None:
        """Remember that the replica ends now. A disk that cannot be written is only logged."""
        try:
            self._path.write_text(json.dumps([*self.recent(), self._clock()]))
        except OSError as error:
            log.error("cannot write to the state folder", extra={"why": str(error)})


class Trouble:
    """Declared once; from then on the replica answers nothing, and in the end its process exits.

    Whoever started the process, supervisord or the container runtime, starts it again. Lives on
    the event loop.
    """

    def __init__(
        self,
        past: PastTroubles,
        withdraw: Callable[[str], Awaitable[None]],
        end_process: Callable[[int], None],
        first_pause_s: float = FIRST_PAUSE_S,
    ) -> None:
        """`withdraw` stops answering and tells it to those who check the health."""
        self._past = past
        self._withdraw = withdraw
        self._end_process = end_process
        self._first_pause_s = first_pause_s
        self._ended = False
        self._ending: asyncio.Task[None] | None = None
        self.why = ""
        """What is wrong, and when the process ends; empty: all is well."""

    def declare(self, why: str) -> None:
        """Take the whole replica out, and end the process after a pause. Repeats do nothing."""
        if self.why:
            return
        before = len(self._past.recent())
        pause_s = min(self._first_pause_s * 2**before, LONGEST_PAUSE_S)
        self.why = f"{why}; this replica restarts {pause_s:.0f} s after it found this"
        fields = {"why": why, "restart_in_s": pause_s, "recent_restarts": before}
        log.critical("this replica cannot compute", extra=fields)
        metrics.TROUBLE.set(1)
        metrics.ENGINE_FAILURES.labels("replica").inc()
        self._ending = asyncio.create_task(self._end(pause_s))

    async def _end(self, pause_s: float) -> None:
        await self._withdraw(self.why)
        await asyncio.sleep(pause_s)
        self.end_now()

    def end_now(self) -> None:
        """End the process. The engine may hold its threads for ever, so nothing is waited for."""
        if self._ended:
            return
        self._ended = True
        self._past.add()
        log.critical("this process ends", extra={"why": self.why, "exit_code": EXIT_CODE})
        self._end_process(EXIT_CODE)
