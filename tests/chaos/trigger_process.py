"""The trigger service as a process of its own, which can be stopped in the middle of anything."""

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

# Rows come all the time, so their age seals them.
AGE_MS = 300
END_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class TriggerProcess:
    """A running `python -m trigger_svc.main`."""

    process: asyncio.subprocess.Process

    @property
    def stands_still(self) -> bool:
        """Whether SIGSTOP holds it."""
        return bool(psutil.Process(self.process.pid).status() == psutil.STATUS_STOPPED)

    async def stop(self) -> None:
        """SIGSTOP; returns when it stands still."""
        self.process.send_signal(signal.SIGSTOP)
        await until(lambda: self.stands_still)

    def go_on(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """SIGKILL, which a process that stands still obeys too."""
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def running_trigger_process(
    database_url: str, airflow_url: str, folder: Path
) -> AsyncIterator[TriggerProcess]:
    """Start one and leave it to start; killed at the end."""
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
    """How many bridges have come to lead so far; the last of them leads."""
    ((found,),) = query(url, "SELECT epoch FROM mesh.bridge")
    return int(found)
