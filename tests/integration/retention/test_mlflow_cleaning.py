"""Old runs on a real MLflow: the training service deletes them, the daily cleaning purges them."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from service_kit.model_registry.records import TAG_JOB_ID
from service_kit.model_registry.registry import Registry
from service_kit.retention import daily_cleaning, old_versions
from tests.real_parts.mlflow_server import running_mlflow
from tests.unit.training.fakes import MemoryJobs
from training_svc.jobs.retention import KEEP_DAYS, Retention

MODEL = "old_runs"
DAY_MS = 86_400_000
DATABASE = "mlflow.db"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running_mlflow(folder) as running:
        yield running


@pytest.fixture(scope="module")
def client(url: str) -> MlflowClient:
    return MlflowClient(url)


@pytest.fixture(scope="module")
def experiment(client: MlflowClient) -> str:
    client.create_registered_model(MODEL)
    return str(client.create_experiment(MODEL))


def run(
    client: MlflowClient, experiment: str, days: float, *, ours: bool = True, ended: bool = True
) -> str:
    """A run that began some days ago, with one file."""
    began = int(time.time() * 1000 - days * DAY_MS)
    tags = {TAG_JOB_ID: "job-1"} if ours else {}
    made = client.create_run(experiment, start_time=began, tags=tags)
    client.log_text(made.info.run_id, "text", "note.txt")
    if ended:
        client.set_terminated(made.info.run_id)
    return str(made.info.run_id)


def register(client: MlflowClient, run_id: str, *, ours: bool = True) -> str:
    tags = {TAG_JOB_ID: "job-1"} if ours else {}
    client.log_text(run_id, "{}", "model/config.json")
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    made = client.create_model_version(MODEL, source, run_id, tags=tags)
    return str(made.version)


def purge(url: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    command = str(Path(sys.executable).parent / "mlflow")
    return subprocess.run(
        [
            *(sys.executable, daily_cleaning.__file__, "--once", "--command", command),
            *("--days", "30", "mlflow", "--url", url),
            *("--database", f"sqlite:///{folder / DATABASE}"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_runs_that_nothing_needs_are_deleted(
    client: MlflowClient, url: str, experiment: str
) -> None:
    old = [run(client, experiment, KEEP_DAYS + 1 + number) for number in range(2)]
    kept = {
        "with a version": run(client, experiment, KEEP_DAYS + 1),
        "young": run(client, experiment, KEEP_DAYS - 1),
        "somebody else's": run(client, experiment, KEEP_DAYS + 1, ours=False),
        "running": run(client, experiment, KEEP_DAYS + 1, ended=False),
    }
    register(client, kept["with a version"], ours=False)
    registry = Registry(url)

    try:
        await Retention(registry, MemoryJobs(), keep_versions=1).apply(MODEL)
    finally:
        await registry.close()
    deleted = client.search_runs([experiment], run_view_type=ViewType.DELETED_ONLY)
    assert {found.info.run_id for found in deleted} == set(old)
    active = client.search_runs([experiment])
    assert {found.info.run_id for found in active} == set(kept.values())


def test_what_was_deleted_long_ago_is_removed_with_its_files(
    client: MlflowClient, url: str, experiment: str, folder: Path
) -> None:
    long_ago, lately = run(client, experiment, 90), run(client, experiment, 90)
    files = folder / "artifacts" / experiment
    for run_id in (long_ago, lately):
        client.delete_run(run_id)
    with closing(sqlite3.connect(folder / DATABASE)) as connection, connection:
        then = int(time.time() * 1000 - 31 * DAY_MS)
        connection.execute("UPDATE runs SET deleted_time = ? WHERE run_uuid = ?", (then, long_ago))
    assert (files / long_ago / "artifacts" / "note.txt").exists()

    result = purge(url, folder)

    assert result.returncode == 0, result.stdout + result.stderr
    assert "removed runs and models that were deleted in MLflow: 1" in result.stdout
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(long_ago)
    assert not list((files / long_ago).rglob("*.txt"))
    assert client.get_run(lately).info.lifecycle_stage == "deleted"
    assert (files / lately / "artifacts" / "note.txt").exists()


def test_nothing_is_removed_while_a_deleted_experiment_may_hold_a_served_model(
    client: MlflowClient, url: str, folder: Path
) -> None:
    deleted = client.create_experiment("deleted_by_hand")
    client.delete_experiment(deleted)
    result = purge(url, folder)
    assert result.returncode == 1
    assert "deleted in MLflow: deleted_by_hand" in result.stdout
    client.restore_experiment(deleted)


@pytest.mark.parametrize("dry_run", [True, False])
async def test_old_versions_are_told_and_deleted(
    client: MlflowClient, url: str, experiment: str, dry_run: bool
) -> None:
    run_id = run(client, experiment, 1)
    numbers = [register(client, run_id) for _ in range(3)]
    client.set_registered_model_alias(MODEL, "Champion", numbers[0])
    before = {found.version for found in client.search_model_versions(f"name='{MODEL}'")}
    registry = Registry(url)

    try:
        found = await old_versions.old_versions(registry, 1, dry_run)
    finally:
        await registry.close()
    names = {item["version"] for item in found}
    assert numbers[1] in names
    assert names.isdisjoint({numbers[0], numbers[2]})
    after = {found.version for found in client.search_model_versions(f"name='{MODEL}'")}
    assert after == (before if dry_run else before - names)
