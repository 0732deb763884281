"""`python -m mesh_cli.local.supervisord_main`: supervisord that mends more thoroughly and quicker.

By itself it may sleep for a second before it starts a program again that was killed, and it leaves
the killed program's children alive, with the port that the new one needs. Before a program that
dies as it starts it waits a second longer each time, without a limit, and gives it up in the end.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import Any

from supervisor.options import ProcessConfig, ServerOptions
from supervisor.poller import Poller
from supervisor.process import Subprocess
from supervisor.states import ProcessStates
from supervisor.supervisord import go

LOOK_S = 0.1
LONGEST_WAIT_S = 5  # before a program is started again that dies as it starts


class BriskPoller(Poller):  # type: ignore[misc]
    """Returns to supervisord's loop early."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Readable and writable file descriptors; none after LOOK_S."""
        ready: tuple[list[int], list[int]] = super().poll(min(timeout, LOOK_S))
        return ready


class PersistentProcess(Subprocess):  # type: ignore[misc]
    """Is started again a few seconds after it died, however often it has died before.

    One that has lived for `startsecs` begins with short waits again.
    """

    backoff: int = 0

    def change_state(self, new_state: int, expected: bool = True) -> bool | None:
        """See Subprocess, which waits as many seconds as it has counted starts that failed."""
        if new_state == ProcessStates.BACKOFF:
            self.backoff = min(self.backoff, LONGEST_WAIT_S - 1)
        changed: bool | None = super().change_state(new_state, expected)
        return changed


class PersistentConfig(ProcessConfig):  # type: ignore[misc]
    """A program that is kept going by a PersistentProcess."""

    def make_process(self, group: Any = None) -> PersistentProcess:
        """Make the process, which does not run yet."""
        process = PersistentProcess(self)
        process.group = group
        return process


class ThoroughOptions(ServerOptions):  # type: ignore[misc]
    """Ends what a program left behind that died by itself, and never gives a program up."""

    def processes_from_section(
        self, parser: Any, section: str, group_name: str, klass: type[ProcessConfig] | None = None
    ) -> list[ProcessConfig]:
        """Read a program's section of the configuration."""
        found: list[ProcessConfig] = super().processes_from_section(
            parser, section, group_name, klass or PersistentConfig
        )
        return found

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
