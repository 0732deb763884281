"""Time that the control plane takes to start and to have its Envoy again after it was killed.

`python -m bench.control_plane_start`: the real process with a real Envoy, MLflow and PostgreSQL in
front of two replicas without a model. It is killed and started again. Times run from the start of
the new process; the time in which a supervisor notices the end of the old one is not in them.
"""

import asyncio
import json
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Annotated

import httpx
import numpy as np
import psutil
import typer
from rich.console import Console
from rich.table import Table

from bench.kit.modelless_mesh import (
    control_plane_process,
    run_with_modelless_mesh,
    without_its_control_plane,
)
from tests.twins.steered_mesh import SteeredMesh

# Messages of its log in their order, and the stages that they mark.
STAGES = {
    "listening": "listens",
    "targets changed": "first snapshot",
    "Envoy joined": "Envoy joined",
}
CPU = "CPU to the first snapshot"
FLEET = "GET /v1/fleet through Envoy"
console = Console()


async def _stages(process: Process, started: float) -> Mapping[str, float]:
    """Milliseconds from `started` to each stage, and CPU milliseconds to the first snapshot."""
    assert process.stdout is not None
    reached: dict[str, float] = {}
    async for line in process.stdout:
        stage = STAGES.get(json.loads(line)["message"])
        if stage is None or stage in reached:
            continue
        reached[stage] = (time.perf_counter() - started) * 1e3
        if stage == STAGES["targets changed"]:
            used = psutil.Process(process.pid).cpu_times()
            reached[CPU] = (used.user + used.system) * 1e3
        if len(reached) == len(STAGES) + 1:
            break
    return reached


async def _fleet(http: httpx.AsyncClient, started: float) -> float:
    while True:
        if (await http.get("/fleet")).is_success:
            break
        await asyncio.sleep(0.02)
    return (time.perf_counter() - started) * 1e3


async def _restart(mesh: SteeredMesh) -> Mapping[str, float]:
    started = time.perf_counter()
    async with control_plane_process(mesh.settings, stdout=PIPE) as process, asyncio.timeout(60):
        stages, fleet = await asyncio.gather(_stages(process, started), _fleet(mesh.http, started))
    return {**stages, FLEET: fleet}


async def _measure(mesh: SteeredMesh, starts: int) -> None:
    await mesh.served("reviews")
    async with without_its_control_plane(mesh):
        restarts = [await _restart(mesh) for _ in range(starts)]
    table = Table("from the start of the process to", "median ms", "max ms")
    for stage in (CPU, *STAGES.values(), FLEET):
        taken = [stages[stage] for stages in restarts]
        table.add_row(stage, f"{np.median(taken):.0f}", f"{max(taken):.0f}")
    console.print(table)


def main(starts: Annotated[int, typer.Option(help="Restarts to time.")] = 10) -> None:
    """Start the mesh, measure, print."""
    run_with_modelless_mesh(lambda mesh: _measure(mesh, starts), console)


if __name__ == "__main__":
    typer.run(main)
