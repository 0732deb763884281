"""Runs a load in a child process, so that it does not share the caller's interpreter lock.

The child prints one line of JSON when the load begins and one with the summary when it is over. It
writes every request to a file.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import NoReturn

from mesh_cli.errors import CliError, NotUp
from mesh_cli.load.plan.spec import LoadSpec
from mesh_cli.load.results.result import LoadResult
from mesh_cli.load.results.result_file import result_from_json

# Seconds beyond the load itself: the child starts, waits for the last answers and reads them.
EXTRA_S = 60.0


class LoadProcess:
    """A load that runs beside the caller. Use it in a `with`: leaving the block ends the load."""

    def __init__(self, spec: LoadSpec) -> None:
        self._spec = spec

    def __enter__(self) -> "LoadProcess":
        self._folder = tempfile.TemporaryDirectory(prefix="mesh-load-")
        folder = Path(self._folder.name)
        self._rows = folder / "rows.json"
        (folder / "spec.json").write_text(self._spec.to_json())
        # A file, not a pipe: nobody reads during the load, and a full pipe would stop the child.
        self._stderr = folder / "stderr"
        with self._stderr.open("w") as stderr:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "mesh_cli.load", folder / "spec.json", "--rows", self._rows],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        assert self._child.stdout is not None
        self._child.stdout.close()
        self._folder.cleanup()

    def begin(self) -> float:
        """Wait until the load begins; return the moment at which its measured part begins.

        The moment is in seconds of time.monotonic(). Raises NotUp when no server answers at the
        address.
        """
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            self._raise_error()
        moment: float = json.loads(line)["begin"]
        return moment

    def result(self) -> LoadResult:
        """Wait for the end and return the result. Raises CliError when there is none."""
        spec = self._spec
        limit = spec.warm_up_s + spec.duration_s + spec.timeout_s + EXTRA_S
        try:
            self._child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            raise CliError(f"the load generator is not done after {limit:.0f} s") from None
        if self._child.returncode:
            self._raise_error()
        return result_from_json(self._rows.read_text())

    def _raise_error(self) -> NoReturn:
        self._child.wait()
        last = (
            self._stderr.read_text().strip().rpartition("\n")[2]
            or f"exit code {self._child.returncode}"
        )
        if self._child.returncode == NotUp.exit_code:
            raise NotUp(last)
        raise CliError(f"the load generator failed: {last}")


def run_load(spec: LoadSpec) -> LoadResult:
    """Run a load in a child process and return its result.

    Raises NotUp when no server answers at the address.
    """
    with LoadProcess(spec) as load:
        load.begin()
        return load.result()
