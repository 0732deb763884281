"""The trigger service as a process of its own, which tests stop in the middle of its work."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.real_parts.service_process import start_module
from tests.real_parts.trigger_service import NOWHERE, query
from tests.real_parts.waiting import until

# Rows come all the time in these tests, so their age seals them and never their quiet time.
AGE_MS = 300
END_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class TriggerProcess:
    """A running `python -m trigger_svc.main`."""

    process: asyncio.subprocess.Process

    @property
    def stands_still(self) -> bool:
        """Whether SIGSTOP has stopped the process."""
        return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    async def stop(self) -> None:
        """Send SIGSTOP; return once the process is stopped."""
        self.process.send_signal(signal.SIGSTOP)
        await until(lambda: self.stands_still)

    def go_on(self) -> None:
        """Send SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """Send SIGKILL, which ends a stopped process too."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def running_trigger_process(
    database_url: str, airflow_url: str, folder: Path
) -> AsyncIterator[TriggerProcess]:
    """Start a process and yield it without waiting until it serves; kill it at the end."""
    environment = {
        "TRIGGER_DATABASE_URL": database_url,
        "TRIGGER_AIRFLOW_URL": airflow_url,
        "TRIGGER_MLFLOW_URL": NOWHERE,
        "TRIGGER_SEAL_AGE_MS": str(AGE_MS),
        "TRIGGER_STATE_DIR": str(folder / "state"),
    }
    process = await start_module(
        "trigger_svc.main", environment=environment, log=folder / "trigger.log"
    )
    try:
        yield TriggerProcess(process)
    finally:
        if process.returncode is None:
            process.kill()
        async with asyncio.timeout(END_TIMEOUT_S):
            await process.wait()


def epoch(url: str) -> int:
    """Return the number of bridges that have come to lead so far; the last one leads."""
    ((number,),) = query(url, "SELECT epoch FROM mesh.bridge")
    return int(number)
