"""Shows what another command prints, line by line, as inert text.

Logs repeat what strangers sent, such as paths, names and texts.
"""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mesh_cli.errors import EXIT_FAILED
from mesh_cli.terminal.plain_console import visible

MAX_LINE_BYTES = 1 << 16  # a longer line is shown in parts


def show(command: Sequence[str], folder: Path | None = None) -> int:
    """Run the command in `folder` and print its output as it comes; return its exit code."""
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            while line := process.stdout.readline(MAX_LINE_BYTES):
                sys.stdout.write(inert(line))
                sys.stdout.flush()
        except BrokenPipeError:
            # The reader, such as `head`, has seen enough. Python would complain at its own end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            process.terminate()
            return EXIT_FAILED
        except BaseException:
            process.terminate()
            raise
        return process.wait()


def inert(line: bytes) -> str:
    """The line as text that no terminal obeys; its tabs and its end stay."""
    text = line.decode(errors="backslashreplace")
    end = "\n" if text.endswith("\n") else ""
    return "\t".join(visible(part) for part in text.removesuffix("\n").split("\t")) + end
