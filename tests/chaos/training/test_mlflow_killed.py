"""MLflow, killed with -9 while a job trains, and started again when the job has been waiting.

Fault: SIGKILL to the server, whose data are on disk; it is away when the job wants to log.
Invariants: the job waits and ends well: same attempt, one version.
"""

import asyncio
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from mesh.v1 import train_pb2
from tests.chaos.conftest import Hold
from tests.chaos.training.conftest import Start, check
from tests.real_parts.mlflow_server import running_mlflow
from tests.real_parts.postgres import free_port
from tests.real_parts.training_service import import_rows, make_rows


def kill(port: int) -> None:
    """Kill the server that has this port among its arguments, with all its processes."""
    me = psutil.Process()
    for process in me.children(recursive=True):
        if any(word == str(port) for word in process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)


@pytest.mark.chaos_full
async def test_job_waits_for_mlflow_and_ends_well(
    start: Start, postgres_url: str, model: str, tmp_path: Path, hold: Hold
) -> None:
    folder, port = tmp_path / "mlflow", free_port()
    import_rows(postgres_url, model, make_rows(80), new=True)
    with ExitStack() as first, ExitStack() as second:
        url = first.enter_context(running_mlflow(folder, port))
        async with start(postgres_url, url) as service:
            await service.train(model, "r1", params=train_pb2.TrainParams(epochs=60))
            await service.trained_on("r1", steps=1)
            kill(port)
            async for job in service.watch("r1"):
                if job.progress.step and job.progress.step == job.progress.total_steps:
                    break
            await asyncio.to_thread(second.enter_context, running_mlflow(folder, port))
            job = await service.ended("r1")
        hold("resumed in the same attempt", job.attempt == 1, f"attempt {job.attempt}")
        await check(hold, url, job)
