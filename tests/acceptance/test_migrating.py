"""Every command of docs/migrating.md works as it stands there."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from mesh.client import MeshClient
from mesh.v1 import train_pb2
from tests.acceptance.conftest import SAMPLES
from tests.whole_mesh.running_mesh import ROOT, TIMEOUT_S, Mesh


def _commands() -> list[str]:
    text = (ROOT / "docs" / "migrating.md").read_text()
    return [line[2:] for line in text.splitlines() if line.startswith("$ ")]


def _run_in_airflow(mesh: Mesh, run: str) -> dict[str, Any]:
    status = mesh.json("status")
    airflow = status["urls"]["airflow"]
    token = httpx.post(
        f"{airflow}/auth/token",
        json={"username": status["airflow"]["user"], "password": status["airflow"]["password"]},
    ).json()["access_token"]
    shown: dict[str, Any] = httpx.get(
        f"{airflow}/api/v2/dags/machine-learning-training-pipeline/dagRuns/{run}",
        headers={"Authorization": f"Bearer {token}"},
    ).json()
    return shown


def test_every_command_works(mesh: Mesh, tmp_path: Path) -> None:
    # Three training jobs have to end, and their accuracy does not matter, so a few rows will do.
    rows = (SAMPLES / "reviews_first.csv").read_text().splitlines(keepends=True)[:17]
    (tmp_path / "train.csv").write_text("".join(rows))
    environment = {
        **mesh.environment,
        # `mesh` and `python` are the project's, as in an activated environment.
        "PATH": f"{Path(sys.executable).parent}:{mesh.environment['PATH']}",
        "MESH": mesh.url,
        "DATABASE": mesh.json("status")["urls"]["postgres"],
    }
    commands = _commands()
    assert len(commands) > 10
    for command in commands:
        result = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    batches = mesh.json("batches", "moved")
    by_hand = next(batch for batch in batches if batch["reason"] == "BATCH_REASON_MANUAL")
    assert _run_in_airflow(mesh, by_hand["id"])["state"] == "success"
    with MeshClient(mesh.address) as client:
        job = client.get_training(by_hand["id"])
    # Two more rows give no better model: the Champion stays, and Airflow's run succeeds all the
    # same.
    assert job.decision.outcome != train_pb2.DECISION_OUTCOME_PROMOTED
