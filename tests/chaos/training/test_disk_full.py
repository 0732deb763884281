"""The disk of the training service is full while a job trains.

Fault: its folder is a small tmpfs that is filled up during the training.
Invariants: the job fails and says that the disk is full, the service lives; once there is room the
next attempt ends well, with one version.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mesh.v1 import train_pb2
from tests.chaos.conftest import Hold
from tests.chaos.training.conftest import Start, check
from tests.real_parts.training_service import import_rows, make_rows

SIZE_MIB = 16


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MIB}m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("a tmpfs cannot be mounted here: that needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(filler: Path) -> None:
    """Write to the file until the disk is full."""
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def test_job_fails_naming_the_full_disk_and_its_next_attempt_ends_well(
    start: Start, postgres_url: str, mlflow_url: str, model: str, small_disk: Path, hold: Hold
) -> None:
    import_rows(postgres_url, model, make_rows(80), new=True)
    filler = small_disk / "filler"
    async with start(postgres_url, mlflow_url, {"state_dir": str(small_disk)}) as service:
        await service.train(model, "r1", params=train_pb2.TrainParams(epochs=60))
        await service.trained_on("r1", steps=1)
        fill(filler)
        failed = await service.ended("r1")
        hold(
            "a job that fails says why",
            failed.state == train_pb2.TRAINING_STATE_FAILED and "full" in failed.error,
            failed.error,
        )
        filler.unlink()
        await service.train(model, "r1")
        job = await service.ended("r1")
        hold("no part restarts", service.process.returncode is None, "the service lives")
    await check(hold, mlflow_url, job)
