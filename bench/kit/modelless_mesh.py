"""A mesh without models, for benchmarks of its control plane."""

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rich.console import Console

from control_plane.service import ControlPlane
from control_plane.settings import ControlPlaneSettings
from service_kit.server import GrpcServer
from tests.real_parts.mlflow_server import running_mlflow
from tests.real_parts.postgres import running_postgres
from tests.twins.steered_mesh import SteeredMesh, steered_mesh


def run_with_modelless_mesh(
    measure: Callable[[SteeredMesh], Awaitable[None]], console: Console
) -> None:
    """Run `measure` with a real Envoy, MLflow, PostgreSQL and control plane around toy replicas."""

    async def run(folder: Path, mlflow_url: str, postgres_url: str) -> None:
        async with steered_mesh(folder, mlflow_url, postgres_url) as mesh:
            await measure(mesh)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("postgres", "mlflow", "mesh"):
            (folder / part).mkdir()
        with (
            console.status("starting PostgreSQL and MLflow"),
            running_postgres(folder / "postgres") as postgres_url,
            running_mlflow(folder / "mlflow") as mlflow_url,
        ):
            asyncio.run(run(folder / "mesh", mlflow_url, postgres_url))


@asynccontextmanager
async def without_its_control_plane(mesh: SteeredMesh) -> AsyncIterator[None]:
    """Stop the control plane in this process for as long as the block runs."""
    await mesh.control.__aexit__()
    yield
    mesh.control = GrpcServer(ControlPlane(mesh.settings), mesh.settings)
    await mesh.control.__aenter__()


def _environment(settings: ControlPlaneSettings) -> dict[str, str]:
    fields = {
        "port": settings.port,
        "replicas": ",".join(settings.replicas),
        "training": settings.training,
        "trigger": settings.trigger,
        "envoy_port": settings.envoy_port,
        "mlflow_url": settings.mlflow_url,
        "database_url": settings.database_url,
    }
    return {
        **os.environ,
        **{f"CONTROL_{name.upper()}": str(value) for name, value in fields.items()},
    }


@asynccontextmanager
async def control_plane_process(
    settings: ControlPlaneSettings, stdout: int = DEVNULL
) -> AsyncIterator[Process]:
    """Run a control plane in a process, which is killed in the end."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "control_plane.main"),
        env=_environment(settings),
        stdout=stdout,
        stderr=STDOUT,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()
