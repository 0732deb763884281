"""A real Airflow for tests: api-server, scheduler and dag-processor on a real PostgreSQL."""

import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.real_parts.postgres import free_port

ROOT = Path(__file__).parents[2]
BINARY = ROOT / ".venv-airflow" / "bin" / "airflow"
DAGS = ROOT / "dags"
# Without --skip-serve-logs the scheduler's log server listens on a fixed port of every interface.
PARTS = (("api-server",), ("scheduler", "--skip-serve-logs"), ("dag-processor",))
DAG_ID = "machine-learning-training-pipeline"
USER = "mesh"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RunningAirflow:
    """The URL of a running Airflow, its one user, and the folder of its logs.

    variables: the environment of its processes.
    """

    url: str
    user: str
    password: str
    password_file: Path
    logs: Path
    variables: dict[str, str]

    def call(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Call /api/v2/dags/{our DAG}/… of the REST API as the user."""
        login = {"username": self.user, "password": self.password}
        with httpx.Client(base_url=self.url, timeout=30) as client:
            token = client.post("/auth/token", json=login).raise_for_status().json()["access_token"]
            headers = {"Authorization": f"Bearer {token}"}
            return client.request(
                method, f"/api/v2/dags/{DAG_ID}/{path}".rstrip("/"), headers=headers, json=body
            )

    def task_states(self, run_id: str) -> dict[str, str]:
        """Return the states of the tasks of one run."""
        answer = self.call("GET", f"dagRuns/{run_id}/taskInstances").raise_for_status().json()
        return {item["task_id"]: item["state"] for item in answer["task_instances"]}

    def run_state(self, run_id: str) -> str:
        """Return the state of one run."""
        answer = self.call("GET", f"dagRuns/{run_id}").raise_for_status().json()
        return str(answer["state"])

    def post_run(self, conf: dict[str, object]) -> httpx.Response:
        """Send the request for a new run that the button in the UI sends."""
        return self.call("POST", "dagRuns", {"logical_date": None, "conf": conf})

    def start_run(self, conf: dict[str, object]) -> str:
        """Start a run; return its id."""
        return str(self.post_run(conf).raise_for_status().json()["dag_run_id"])

    def fail_run(self, run_id: str) -> None:
        """Mark a run as failed, which ends its tasks."""
        self._change("PATCH", f"dagRuns/{run_id}", {"state": "failed"})

    def delete_run(self, run_id: str) -> None:
        """Delete a run."""
        self._change("DELETE", f"dagRuns/{run_id}")

    def pause(self, paused: bool) -> None:
        """Pause the DAG, or let it go on."""
        self._change("PATCH", "", {"is_paused": paused})

    def _change(self, method: str, path: str, body: object = None) -> None:
        """Call until the answer is no server error, for at most 30 s.

        Airflow answers 500 when its database finds a deadlock with the scheduler.
        """
        give_up = time.monotonic() + 30
        while (answer := self.call(method, path, body)).is_server_error:
            if time.monotonic() > give_up:
                break
            time.sleep(0.2)
        answer.raise_for_status()


@contextmanager
def running_airflow(
    folder: Path, database_url: str, environment: dict[str, str]
) -> Iterator[RunningAirflow]:
    """Run Airflow with the repo's DAGs; `environment` reaches the tasks."""
    port = free_port()
    airflow = _airflow(folder, f"http://127.0.0.1:{port}")
    variables = _clean_environment() | _configuration(airflow, folder, database_url, port)
    variables |= environment
    airflow.variables.update(variables)
    subprocess.run(
        [BINARY, "db", "migrate"], env=variables, check=True, capture_output=True, cwd=folder
    )
    processes = [_start(command, variables, airflow.logs) for command in PARTS]
    try:
        _wait_until_healthy(airflow)
        yield airflow
    finally:
        _stop(processes)


def _airflow(folder: Path, url: str) -> RunningAirflow:
    password, password_file = secrets.token_hex(12), folder / "passwords.json"
    password_file.write_text(json.dumps({USER: password}))
    logs = folder / "logs"
    logs.mkdir()
    return RunningAirflow(url, USER, password, password_file, logs, {})


def _configuration(
    airflow: RunningAirflow, folder: Path, database_url: str, port: int
) -> dict[str, str]:
    secret = secrets.token_hex(32)
    sections = {
        "CORE": {
            "DAGS_FOLDER": str(DAGS),
            "LOAD_EXAMPLES": "False",
            "EXECUTOR": "LocalExecutor",
            "PARALLELISM": "4",
            "DAGS_ARE_PAUSED_AT_CREATION": "False",
            "EXECUTION_API_SERVER_URL": f"{airflow.url}/execution/",
            "SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(airflow.password_file),
        },
        "DATABASE": {
            "SQL_ALCHEMY_CONN": database_url.replace("postgresql:", "postgresql+psycopg2:"),
            "SQL_ALCHEMY_CONN_ASYNC": "",
        },
        "API": {
            "HOST": "127.0.0.1",
            "PORT": str(port),
            "BASE_URL": airflow.url,
            "WORKERS": "1",
            "SECRET_KEY": secret,
        },
        "API_AUTH": {"JWT_SECRET": secret},
        "SCHEDULER": {"SCHEDULER_IDLE_SLEEP_TIME": "0.1"},
        "DAG_PROCESSOR": {"REFRESH_INTERVAL": "5"},
        "LOGGING": {"BASE_LOG_FOLDER": str(airflow.logs / "tasks")},
        "USAGE_DATA_COLLECTION": {"ENABLED": "False"},
    }
    variables = {
        f"AIRFLOW__{section}__{option}": value
        for section, options in sections.items()
        for option, value in options.items()
    }
    # Airflow starts its helper programs by name, so they have to be on the PATH.
    path = f"{BINARY.parent}{os.pathsep}{os.environ['PATH']}"
    return variables | {"AIRFLOW_HOME": str(folder), "PATH": path, "NO_PROXY": "127.0.0.1"}


def _clean_environment() -> dict[str, str]:
    ours = ("AIRFLOW", "MESH_", "SLACK_", "PG")
    return {key: value for key, value in os.environ.items() if not key.startswith(ours)}


def _start(
    command: tuple[str, ...], variables: dict[str, str], logs: Path
) -> subprocess.Popen[bytes]:
    with (logs / f"{command[0]}.log").open("wb") as log:
        return subprocess.Popen(
            [BINARY, *command],
            env=variables,
            stdout=log,
            stderr=log,
            cwd=logs.parent,
            start_new_session=True,
        )


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    deadline = time.monotonic() + STOP_TIMEOUT_S
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.1))
        # Its workers, which share its process group, may outlive it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_until_healthy(airflow: RunningAirflow) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    states: dict[str, Any] = {}
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(f"{airflow.url}/api/v2/monitor/health", timeout=5).json()
            wanted = ("metadatabase", "scheduler", "dag_processor")
            states = {part: answer[part]["status"] for part in wanted}
            if set(states.values()) == {"healthy"}:
                # The first call to the execution API builds that app, which holds the whole API
                # server up for seconds. This call makes it happen now, not during a test.
                httpx.get(f"{airflow.url}/execution/health", timeout=60).raise_for_status()
                return
        except (httpx.HTTPError, ValueError):
            states = {"api-server": "does not answer"}
        time.sleep(0.2)
    logs = "\n".join(file.read_text()[-2000:] for file in airflow.logs.glob("*.log"))
    raise RuntimeError(f"Airflow did not become healthy: {states}\n{logs}")
