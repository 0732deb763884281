"""PostgreSQL, killed with -9 while a job trains, and started again some seconds later.

Fault: SIGKILL to the postmaster; nothing answers for a while; then crash recovery.
Invariants: neither service nor job notices more than a pause: same attempt, one version.
"""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from mesh.v1 import train_pb2
from tests.chaos.conftest import Hold
from tests.chaos.training.conftest import Start, check
from tests.real_parts.postgres import free_port, running_postgres
from tests.real_parts.training_service import import_rows, make_rows

AWAY_S = 3.0


@pytest.mark.chaos_full
async def test_job_goes_on_through_the_restart(
    start: Start, mlflow_url: str, model: str, tmp_path: Path, hold: Hold
) -> None:
    folder, port = tmp_path / "postgres", free_port()
    folder.mkdir()
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(running_postgres(folder, port))
        import_rows(url, model, make_rows(80), new=True)
        async with start(url, mlflow_url) as service:
            await service.train(model, "r1", params=train_pb2.TrainParams(epochs=60))
            await service.trained_on("r1", steps=1)
            postmaster = psutil.Process(
                int((folder / "data/postmaster.pid").read_text().split()[0])
            )
            backends = postmaster.children()
            postmaster.send_signal(signal.SIGKILL)
            psutil.wait_procs([postmaster, *backends], timeout=20)
            await asyncio.sleep(AWAY_S)
            second.enter_context(running_postgres(folder, port))
            job = await service.ended("r1")
            hold("no part restarts", service.process.returncode is None, "the service lives")
    hold("resumed in the same attempt", job.attempt == 1, f"attempt {job.attempt}")
    await check(hold, mlflow_url, job)
