"""How soon a finished model switches while seven other models train or wait.

`python -m bench.training.eight_models`: a real Airflow with four workers and the real DAG, before a
mesh of scripted answers whose one device trains the models one after another, 5 s each. Prints the
seconds from the end of each training to the call of Reload: Airflow's share of the switch.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.real_parts.airflow import running_airflow
from tests.real_parts.postgres import execute, running_postgres, with_database
from tests.twins.stub_mesh import DEVICE_S, StubMesh, running_stub_mesh

GIVE_UP_S = 600.0
console = Console()


def _waits(stub: StubMesh, models: int) -> dict[str, float]:
    """Seconds from the end of each model's training to its Reload, once all have been reloaded."""
    give_up = time.monotonic() + GIVE_UP_S
    while len(stub.reloaded_at) < models:
        if time.monotonic() > give_up:
            raise RuntimeError(f"only {len(stub.reloaded_at)} models were switched")
        time.sleep(0.1)
    return {model: stub.reloaded_at[model] - end for model, end in stub.trained_at.items()}


def main(models: Annotated[int, typer.Option(help="Models that train at once.")] = 8) -> None:
    """Measure one round."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("postgres", "airflow"):
            (folder / part).mkdir()
        with running_stub_mesh() as (stub, address), running_postgres(folder / "postgres") as url:
            execute(url, "CREATE DATABASE airflow")
            database = with_database(url, "airflow")
            environment = {"MESH_ADDRESS": address}
            with running_airflow(folder / "airflow", database, environment) as airflow:
                for number in range(models):
                    airflow.start_run({"model": f"queue{number}"})
                waits = _waits(stub, models)
    for model, seconds in waits.items():
        console.print(f"{model}: {seconds:.1f} s")
    middle = sorted(waits.values())[len(waits) // 2]
    console.print(
        f"{models} models, {DEVICE_S:g} s of training each: median {middle:.1f} s,"
        f" most {max(waits.values()):.1f} s from the end of a training to its Reload"
    )


if __name__ == "__main__":
    typer.run(main)
