"""Runs the `docker` command in the folder of compose.yaml."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol

from mesh_cli.errors import CliError
from mesh_cli.terminal import log_lines

# Seconds for a command whose output is captured. Commands that show their output, such as those
# that build or pull images, have no limit.
COMMAND_TIMEOUT_S = 600.0

# Where a command's standard output goes: returned at the end, printed line by line as inert text,
# or passed on to standard error as it comes.
Output = Literal["captured", "stdout", "stderr"]


class Run(Protocol):
    """Runs a command to its end."""

    def __call__(
        self, command: Sequence[str], *, folder: Path, stdin: str, output: Output
    ) -> "subprocess.CompletedProcess[str]":
        """Run `command` in `folder`; the result holds its output when that is captured.

        Raises FileNotFoundError, and subprocess.TimeoutExpired after COMMAND_TIMEOUT_S.
        """


def run(
    command: Sequence[str], *, folder: Path, stdin: str, output: Output
) -> "subprocess.CompletedProcess[str]":
    """Run a command on this machine."""
    if output == "stdout":
        return subprocess.CompletedProcess(command, log_lines.show(command, folder))
    if output == "stderr":
        return subprocess.run(command, cwd=folder, stdout=sys.stderr, text=True, check=False)
    return subprocess.run(
        command,
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


class Engine:
    """Docker, and Compose on the project in `folder`."""

    def __init__(self, folder: Path, run: Run = run) -> None:
        self.folder = folder.absolute()
        self._run = run

    def compose_command(self, *arguments: str) -> list[str]:
        """The whole `docker compose …` command."""
        return ["docker", "compose", "--project-directory", str(self.folder), *arguments]

    def compose(self, *arguments: str, stdin: str = "") -> str:
        """Output of `docker compose …`. Raises CliError with the last line of its errors."""
        return self._output(self.compose_command(*arguments), stdin)

    def docker(self, *arguments: str) -> str:
        """Output of `docker …`. Raises CliError with the last line of its errors."""
        return self._output(["docker", *arguments], "")

    def show(self, *arguments: str) -> None:
        """Run `docker compose …` and show its output on standard error. Raises CliError."""
        # Standard output is for the verb's own result.
        if self._start(self.compose_command(*arguments), "", "stderr").returncode:
            raise CliError(f"`docker compose {arguments[0]}` failed; its output above says why")

    def pass_through(self, *arguments: str) -> int:
        """Run `docker compose …` and print its output; returns its exit code."""
        return self._start(self.compose_command(*arguments), "", "stdout").returncode

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of changes to the containers. Raises CliError when it is taken."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError:
            raise CliError(
                f"the mesh in {self.folder} is already starting, being scaled or rolled: "
                "try again when that has ended"
            ) from None
        finally:
            os.close(descriptor)

    def _output(self, command: list[str], stdin: str) -> str:
        result = self._start(command, stdin, "captured")
        if result.returncode:
            lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
            raise CliError(f"`{_short(command)}` failed: {lines[-1]}")
        return result.stdout

    def _start(
        self, command: list[str], stdin: str, output: Output
    ) -> "subprocess.CompletedProcess[str]":
        if not (self.folder / "compose.yaml").exists():
            raise CliError(
                f"there is no compose.yaml in {self.folder}: set MESH_COMPOSE_FOLDER to its folder"
            )
        try:
            return self._run(command, folder=self.folder, stdin=stdin, output=output)
        except FileNotFoundError:
            raise CliError("there is no `docker` here: install Docker and Compose v2") from None
        except subprocess.TimeoutExpired:
            raise CliError(
                f"`{_short(command)}` did not end in {COMMAND_TIMEOUT_S:.0f} s"
            ) from None


def _short(command: Sequence[str]) -> str:
    """`docker compose up` of a long command line."""
    return " ".join(command[:2] if command[1] != "compose" else [*command[:2], command[4]])
