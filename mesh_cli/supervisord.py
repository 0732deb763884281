"""`python -m mesh_cli.supervisord`: supervisord that looks at its programs ten times a second.

By itself it may sleep for a second before it starts one again that was killed.
"""

import sys

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


def main() -> None:
    """Run supervisord with the options of the command line."""
    options = ServerOptions()
    options.poller = BriskPoller(options)
    options.realize(sys.argv[1:], doc=__doc__)
    options.first, options.test = True, False
    go(options)


if __name__ == "__main__":
    main()
