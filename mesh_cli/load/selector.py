"""Event loops that wake up at the moment, not up to a millisecond after it."""

import asyncio
import select
import selectors
import sys


def new_event_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose timers are exact to about 0.1 ms."""
    if sys.platform != "linux":
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(_PreciseSelector())


if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        """Epoll takes whole milliseconds, select microseconds; so select waits for the epoll."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is not None and timeout > 0:
                ready, _, _ = select.select([self.fileno()], [], [], timeout)
                return super().select(0) if ready else []
            return super().select(timeout)
