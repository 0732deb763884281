"""An event loop whose timers are not up to a millisecond late, as asyncio's are."""

import asyncio
import select
import selectors
import sys


def new_precise_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to about 0.1 ms."""
    if sys.platform != "linux":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(_PreciseSelector())


if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        """Waits by select(), whose timeout is in microseconds; epoll's is in whole milliseconds."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                ready, _, _ = select.select([self.fileno()], [], [], timeout)
                return super().select(0) if ready else []
            return super().select(timeout)
