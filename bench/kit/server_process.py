"""A server process with all its children: started, waited for, measured, always stopped."""

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
    """Runs a command in a process group of its own. Use it in a `with`: it enters when ready.

    Raises RuntimeError with the end of its log when it ends or is not ready in time.
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
        self._ready = ready
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
                # Not a session of its own: Linux shares the processors out between sessions first
                # (autogroup), and lets a thread wait for 100 ms that would wait for 5.
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
        while not self._ready():
            if self._child.poll() is not None:
                raise RuntimeError(f"{self.name} ended: {self.log_end()}")
            if time.monotonic() - begin > START_TIMEOUT_S:
                raise RuntimeError(f"{self.name} is not ready: {self.log_end()}")
            time.sleep(POLL_S)

    def stop(self) -> None:
        """End it and whatever it has started."""
        family = self.family()
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, STOP_TIMEOUT_S)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._child.wait()

    def log_end(self) -> str:
        """The last lines that it wrote."""
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
        """Memory, shared pages counted once for each process."""
        return sum(process.memory_info().rss for process in self.family()) / 2**20
