"""How long a training on a large table takes to start, and how much memory it needs.

`python -m bench.training.large_table --rows 10000000`: a real PostgreSQL, MLflow and training
service. SQL makes the rows. Prints the seconds from `Train` to the first report after an optimiser
step, and the most memory that the training's process has held (VmHWM, MiB).
"""

import asyncio
import re
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mesh.v1 import train_pb2
from tests.real_parts.mlflow_server import running_mlflow
from tests.real_parts.postgres import execute, running_postgres
from tests.real_parts.training_service import Service, import_rows, running_service

MODEL = "large"
# The oldest rows are held out, so that finding them takes longest.
MAKE_ROWS = """
INSERT INTO training.large (text, label, split)
SELECT 'a review of film number ' || n || CASE n % 2 WHEN 0 THEN ' , lovely' ELSE ' , awful' END,
       CASE n % 2 WHEN 0 THEN 'positive' ELSE 'negative' END,
       CASE WHEN n <= 20000 THEN 'test' ELSE 'train' END
FROM generate_series(1, {rows}) AS n
"""
KEY = "ALTER TABLE training.large ADD PRIMARY KEY (id)"
FINISH_S = 3600.0
console = Console()


async def _start(service: Service) -> tuple[float, float, train_pb2.TrainingJob]:
    """Seconds to the first step, peak memory in MiB by then, and the job."""
    started = time.monotonic()
    await service.train(MODEL, "r1")
    child = await service.child_pid()
    job = await service.trained_on("r1", steps=1)
    if job.error:
        raise RuntimeError(job.error)
    seconds = time.monotonic() - started
    return seconds, _peak_mib(child), job


def _peak_mib(pid: int) -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


async def _measure(rows: int, folder: Path, to_the_end: bool) -> None:
    with running_postgres(folder / "postgres") as url, running_mlflow(folder / "mlflow") as mlflow:
        console.print(f"making {rows:,} rows")
        import_rows(url, MODEL, [], new=True)
        execute(url, MAKE_ROWS.format(rows=rows))
        execute(url, KEY)
        settings = {
            "database_url": url,
            "mlflow_url": mlflow,
            "state_dir": str(folder / "state"),
            "device": "cpu",
            "drain_seconds": "0",
        }
        async with running_service(settings, folder / "training.log") as service:
            child = asyncio.create_task(service.child_pid())
            seconds, peak, job = await _start(service)
            console.print(
                f"{rows:,} rows: {seconds:.1f} s from Train to the first step, peak {peak:,.0f} MiB"
                f" by then; {job.rows.train:,} rows to train on, {job.rows.test:,} held out,"
                f" {job.rows.left_out:,} left out, {job.rows.dropped:,} dropped"
            )
            if to_the_end:
                pid = await child
                ended = asyncio.create_task(service.ended("r1"))
                while not ended.done():
                    if Path(f"/proc/{pid}").exists():
                        peak = max(peak, _peak_mib(pid))
                    await asyncio.wait({ended}, timeout=1.0)
                console.print(f"peak {peak:,.0f} MiB to the end")


def main(
    rows: Annotated[int, typer.Option(help="Rows in the table.")] = 10_000_000,
    to_the_end: Annotated[
        bool, typer.Option("--to-the-end", help="Also follow the training to its end.")
    ] = False,
) -> None:
    """Measure the start of one training."""
    with tempfile.TemporaryDirectory() as folder:
        for part in ("postgres", "mlflow"):
            (Path(folder) / part).mkdir()
        asyncio.run(asyncio.wait_for(_measure(rows, Path(folder), to_the_end), FINISH_S))


if __name__ == "__main__":
    typer.run(main)
