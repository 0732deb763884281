"""A server process with its children: started, awaited, measured, and always stopped."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import psutil

# The first start after an installation compiles hundreds of modules.
START_TIMEOUT_S = 300.0
STOP_TIMEOUT_S = 15.0
POLL_S = 0.05


def end_as_by_control_c() -> None:
    """Let SIGTERM end this process through its `with` blocks, which stop the servers."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


class ServerProcess:
    """Runs a command in its own process group. Use it in a `with`: the block begins when it is up.

    Entering raises RuntimeError with the end of the log when the command ends or is not ready in
    START_TIMEOUT_S seconds.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self._command = [str(part) for part in command]
        self._is_ready = ready
        self._log = log
        self._environment = os.environ | dict(environment or {})
        self._folder = folder
        self.seconds_to_ready = 0.0

    def __enter__(self) -> "ServerProcess":
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            begin = time.monotonic()
            self._child = subprocess.Popen(
                self._command,
                stdout=log,
                stderr=log,
                env=self._environment,
                cwd=self._folder,
                # A process group, not a session: Linux divides the processors between sessions
                # first (autogroup), and a thread that would wait for 5 ms then waits for 100.
                process_group=0,
            )
        try:
            self._wait(begin)
        except BaseException:
            self.stop()
            raise
        self.seconds_to_ready = time.monotonic() - begin
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _wait(self, begin: float) -> None:
        while not self._is_ready():
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log_end()}")
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise RuntimeError(f"{self.name} is not ready: {self.log_end()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End the process and all its descendants."""
        family = self.family()
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, STOP_TIMEOUT_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._child.wait()

    def log_end(self) -> str:
        """The end of the log."""
        return self._log.read_text(errors="replace")[-2000:]

    def family(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        try:
            process = psutil.Process(self._child.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def cpu_s(self) -> float:
        """CPU seconds so far, user and system."""
        return sum(sum(process.cpu_times()[:2]) for process in self.family())

    def thread_cpu_s(self) -> dict[int, float]:
        """CPU seconds so far of each thread of the process itself."""
        threads = psutil.Process(self._child.pid).threads()
        return {thread.id: thread.user_time + thread.system_time for thread in threads}

    def resident_mib(self) -> float:
        """Resident memory in MiB; a page that processes share is counted once for each."""
        return sum(process.memory_info().rss for process in self.family()) / 2**20
