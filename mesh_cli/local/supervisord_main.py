"""`python -m mesh_cli.local.supervisord_main`: supervisord with quicker and lasting restarts.

Three things differ from the supervisord of the package:
- It notices a killed program within LOOK_S, where it would sleep for up to a second.
- It kills the children of a program that died, which would hold the port that the next one needs.
- It starts a program that dies as it starts again and again, at most LONGEST_WAIT_S apart. The
  package's supervisord waits a second longer each time, and gives the program up in the end.
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
LONGEST_WAIT_S = 5


class BriskPoller(Poller):  # type: ignore[misc]
    """Returns to supervisord's loop after LOOK_S at most."""

    def poll(self, timeout: float) -> tuple[list[int], list[int]]:
        """Wait for readable and writable file descriptors; both lists are empty after LOOK_S."""
        ready: tuple[list[int], list[int]] = super().poll(min(timeout, LOOK_S))
        return ready


class PersistentProcess(Subprocess):  # type: ignore[misc]
    """A process that is started again within LONGEST_WAIT_S, however often it has died.

    After it has lived for `startsecs` its waits begin at a second again.
    """

    backoff: int = 0

    def change_state(self, new_state: int, expected: bool = True) -> bool | None:
        """Change the state; Subprocess then waits `backoff` seconds, its count of failed starts."""
        if new_state == ProcessStates.BACKOFF:
            self.backoff = min(self.backoff, LONGEST_WAIT_S - 1)
        changed: bool | None = super().change_state(new_state, expected)
        return changed


class PersistentConfig(ProcessConfig):  # type: ignore[misc]
    """A program whose process is a PersistentProcess."""

    def make_process(self, group: Any = None) -> PersistentProcess:
        """Make the process; supervisord starts it later."""
        process = PersistentProcess(self)
        process.group = group
        return process


class ThoroughOptions(ServerOptions):  # type: ignore[misc]
    """supervisord's options and system calls, changed as this module's docstring says."""

    def processes_from_section(
        self, parser: Any, section: str, group_name: str, klass: type[ProcessConfig] | None = None
    ) -> list[ProcessConfig]:
        """Read a program's section of the configuration."""
        configs: list[ProcessConfig] = super().processes_from_section(
            parser, section, group_name, klass or PersistentConfig
        )
        return configs

    def waitpid(self) -> tuple[int | None, int | None]:
        """Reap one child: its process id and wait status; None twice when none has ended."""
        try:
            # WNOWAIT leaves the child unreaped, so its id cannot yet be another process group's.
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return None, None
        if ended is None:
            return None, None
        program = self.pidhistory.get(ended.si_pid)
        # A program that was asked to stop has passed that on to its children, who may need time.
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
