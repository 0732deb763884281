"""When the memory of versions that nobody uses any more goes back to the system."""

import asyncio
from asyncio import Future
from concurrent.futures import Executor

from inference_svc.engines.base import Engine

# Answers that are still being sent refer to the version that gave them.
RELEASE_DELAY_S = 1.0
# How often models that have computed nothing lately give back what they need only to compute.
IDLE_CHECK_S = 5.0


class MemoryRelease:
    """Has the engine release memory some time after a version was let go; on the event loop."""

    def __init__(
        self,
        engine: Engine,
        executor: Executor,
        delay_s: float = RELEASE_DELAY_S,
        idle_check_s: float = IDLE_CHECK_S,
    ) -> None:
        """The engine's calls block for long, so they run in `executor`."""
        self._engine = engine
        self._executor = executor
        self._delay_s = delay_s
        self._idle_check_s = idle_check_s
        self._timer: asyncio.TimerHandle | None = None
        self._idle_timer: asyncio.TimerHandle | None = None
        self._closed = False

    def start(self) -> None:
        """Look for idle models from now on, every `idle_check_s`."""
        self._next_idle_check(None)

    def _next_idle_check(self, done: Future[None] | None) -> None:
        """Look again some time after the last look has ended; looks never queue up."""
        if not self._closed:
            loop = asyncio.get_running_loop()
            self._idle_timer = loop.call_later(self._idle_check_s, self._check_idle)

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        look = loop.run_in_executor(self._executor, self._engine.release_idle)
        look.add_done_callback(self._next_idle_check)

    def schedule(self) -> None:
        """Release memory once, `delay_s` after the latest call of this method."""
        if self._timer is not None:
            self._timer.cancel()
        if not self._closed:
            self._timer = asyncio.get_running_loop().call_later(
                self._delay_s, self._executor.submit, self._engine.release_memory
            )

    def close(self) -> None:
        """Release nothing from now on; the executor may be shut down afterwards."""
        self._closed = True
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        if self._timer is not None:
            self._timer.cancel()
