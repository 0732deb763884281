"""`python -m mesh_cli.supervisord`: supervisord that mends what died quicker and more thoroughly.

By itself it may sleep for a second before it starts a program again that was killed, and it leaves
the killed program's children alive, with the port that the new one needs.
"""

import os
import signal
import sys
from contextlib import suppress

from supervisor.options import ServerOptions
from supervisor.poller import Poller
from supervisor.supervisord import go

LOOK_S = 0.1


class BriskPoller(Poller):  # type: ignore[misc]
    """Returns to supervisord's loop early."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Readable and writable file descriptors; none after LOOK_S."""
        ready: tuple[list[int], list[int]] = super().poll(min(timeout, LOOK_S))
        return ready


class ThoroughOptions(ServerOptions):  # type: ignore[misc]
    """Ends what a program left behind that died by itself."""

    def waitpid(self) -> tuple[int | None, int | None]:
        """Reap one child: its process id and wait status; None twice when none has ended."""
        try:
            # A look only: not yet reaped, its process id cannot have become another group's.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None, None
        if ended is None:
            return None, None
        program = self.pidhistory.get(ended.si_pid)
        # One that was asked to stop has told its children, who may need a moment.
        if program is not None and not program.killing:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(ended.si_pid, signal.SIGKILL)
        return os.waitpid(ended.si_pid, 0)


def main() -> None:
    """Run supervisord with the options of the command line."""
    options = ThoroughOptions()
    options.poller = BriskPoller(options)
    options.realize(sys.argv[1:], doc=__doc__)
    options.first, options.test = True, False
    go(options)


if __name__ == "__main__":
    main()
