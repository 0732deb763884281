"""A mesh without models for benchmarks of what steers it."""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console

from tests.mlflow_server import running_mlflow
from tests.postgres import running_postgres
from tests.steered_mesh import SteeredMesh, steered_mesh


def with_steered_mesh(measure: Callable[[SteeredMesh], Awaitable[None]], console: Console) -> None:
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
