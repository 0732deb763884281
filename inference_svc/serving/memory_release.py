"""When the memory of versions that nobody uses any more goes back to the system."""

import asyncio
from concurrent.futures import Executor

from inference_svc.engines.base import Engine

# Answers that are still being sent refer to the version that gave them.
RELEASE_DELAY_S = 1.0


class MemoryRelease:
    """Has the engine release memory some time after a version was let go; on the event loop."""

    def __init__(
        self, engine: Engine, executor: Executor, delay_s: float = RELEASE_DELAY_S
    ) -> None:
        """The engine's call blocks for long, so it runs in `executor`."""
        self._engine = engine
        self._executor = executor
        self._delay_s = delay_s
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

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
        if self._timer is not None:
            self._timer.cancel()
