"""Runs a command when the test process is gone without having cleaned up, as after Ctrl-C."""

import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

# The pipe to this process closes when the test process ends, however it ends. The command is tried
# again, since what it stops may just be starting.
_WATCH = """
import subprocess, sys, time
sys.stdin.read()
for _ in range(20):
    if subprocess.run(sys.argv[1:]).returncode == 0:
        break
    time.sleep(3)
"""


@contextmanager
def run_if_orphaned(
    command: Sequence[str | Path], environment: Mapping[str, str]
) -> Iterator[None]:
    """Run `command` if this process ends within the block; do nothing when the block ends."""
    watch = subprocess.Popen(
        [sys.executable, "-c", _WATCH, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        # Ctrl-C in the terminal reaches the tests' session only.
        start_new_session=True,
    )
    try:
        yield
    finally:
        watch.kill()
        watch.communicate()
