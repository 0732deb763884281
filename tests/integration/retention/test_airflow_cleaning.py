"""The daily cleaning on a real Airflow whose database and logs hold an old run and a new one."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from service_kit.retention import daily_cleaning
from tests.real_parts.airflow import BINARY, RunningAirflow, running_airflow
from tests.real_parts.postgres import execute, with_database

pytestmark = [
    pytest.mark.skipif(not BINARY.exists(), reason=f"{BINARY} is missing: run `make install`"),
    pytest.mark.timeout(300),
]
WAIT_S = 60.0
DAYS_AGO = "now() - interval '40 days'"


@pytest.fixture
def database(postgres_server: str) -> Iterator[str]:
    execute(postgres_server, "CREATE DATABASE cleaned_airflow")
    yield with_database(postgres_server, "cleaned_airflow")
    execute(postgres_server, "DROP DATABASE cleaned_airflow WITH (FORCE)")


@pytest.fixture
def airflow(database: str, tmp_path: Path) -> Iterator[RunningAirflow]:
    # Nothing listens there: the first task of a run is tried for as long as the test takes.
    with running_airflow(tmp_path, database, {"MESH_ADDRESS": "127.0.0.1:1"}) as running:
        yield running


def folder_of(airflow: RunningAirflow, run_id: str) -> Path:
    [folder] = (airflow.logs / "tasks").glob(f"dag_id=*/run_id={run_id}")
    return folder


def ended_run(airflow: RunningAirflow) -> str:
    """A run that has written logs, and was then marked as failed."""
    run_id = airflow.start_run({"model": "reviews", "batch_id": ""})
    give_up = time.monotonic() + WAIT_S
    while not list((airflow.logs / "tasks").glob(f"dag_id=*/run_id={run_id}/*/*.log")):
        assert time.monotonic() < give_up, airflow.task_states(run_id)
        time.sleep(0.2)
    airflow.fail_run(run_id)
    while airflow.task_states(run_id)["Training_Data_Update"] == "running":
        assert time.monotonic() < give_up, airflow.task_states(run_id)
        time.sleep(0.2)
    return run_id


def age(database: str, run_id: str) -> None:
    """Let the run, its tasks and their entries be 40 days old."""
    for table, column in (
        ("dag_run", "start_date"),
        ("task_instance", "start_date"),
        ("task_instance_history", "start_date"),
        ("xcom", "timestamp"),
        ("log", "dttm"),
    ):
        execute(database, f"UPDATE {table} SET {column} = {DAYS_AGO} WHERE run_id = '{run_id}'")


def rows(database: str, run_id: str) -> dict[str, int]:
    counts = {}
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        for table in ("dag_run", "task_instance", "log"):
            cursor.execute(f"SELECT count(*) FROM {table} WHERE run_id = %s", (run_id,))
            [(counts[table],)] = cursor.fetchall()
    return counts


def test_old_runs_go_with_their_rows_and_logs_and_new_ones_stay(
    airflow: RunningAirflow, database: str
) -> None:
    old, new = ended_run(airflow), ended_run(airflow)
    age(database, old)
    long_ago = time.time() - 40 * daily_cleaning.DAY_S
    old_folder, new_folder = folder_of(airflow, old), folder_of(airflow, new)
    os.utime(old_folder, (long_ago, long_ago))
    before = rows(database, new)
    assert min(rows(database, old).values()) > 0
    # After a long pause of the mesh the DAG itself looks old.
    execute(database, f"UPDATE dag SET last_parsed_time = {DAYS_AGO}")

    result = subprocess.run(
        [
            *(sys.executable, daily_cleaning.__file__, "--once", "--command", str(BINARY)),
            *("--days", "30", "airflow", "--logs", str(airflow.logs / "tasks")),
        ],
        env=airflow.variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 of dag_run" in result.stdout
    assert rows(database, old) == {"dag_run": 0, "task_instance": 0, "log": 0}
    assert airflow.call("GET", f"dagRuns/{old}").status_code == 404
    assert not old_folder.exists()
    assert new_folder.exists()
    assert {**rows(database, new), "log": 0} == {**before, "log": 0}
    assert airflow.run_state(new) == "failed"
    # No archive of the removed rows is left behind, and the loop can go on.
    with closing(psycopg2.connect(database)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_class WHERE relname LIKE '\\_airflow\\_deleted%'")
        assert cursor.fetchall() == [(0,)]
    assert airflow.post_run({"model": "reviews", "batch_id": ""}).is_success
