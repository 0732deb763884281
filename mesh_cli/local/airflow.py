"""Configuration of a local mesh's Airflow: three processes on the mesh's own PostgreSQL."""

import configparser
import os
import subprocess
from io import StringIO
from pathlib import Path

import httpx

from mesh_cli.errors import CliError
from mesh_cli.local import postgres
from mesh_cli.local.home import MeshHome, MeshSettings, write_private
from mesh_cli.local.local_secrets import AIRFLOW_USER, LocalSecrets

PARTS = ("api-server", "scheduler", "dag-processor")
ARGUMENTS = {
    # The log server would listen on every interface at one fixed port.
    "scheduler": ("--skip-serve-logs",),
}
MIGRATION_TIMEOUT_S = 300
WARM_UP_TIMEOUT_S = 120.0


def binary(settings: MeshSettings) -> Path:
    """Airflow's command. Raises CliError when its environment is missing."""
    path = settings.airflow_venv / "bin" / "airflow"
    if not path.exists():
        raise CliError(f"{path} is missing: run `make install`, or set MESH_AIRFLOW_VENV")
    return path


def environment(home: MeshHome, settings: MeshSettings) -> dict[str, str]:
    """Environment of every Airflow process; settings and keys are in its airflow.cfg."""
    # Airflow starts helpers by name, so its own `bin` comes first.
    path = f"{settings.airflow_venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {
        "AIRFLOW_HOME": str(home.airflow),
        "PATH": path,
        "PYTHONUNBUFFERED": "1",
        "MESH_ADDRESS": f"127.0.0.1:{settings.port}",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def write_config(home: MeshHome, settings: MeshSettings, secrets: LocalSecrets, port: int) -> None:
    """Write airflow.cfg, readable by the owner only."""
    secrets.airflow_password()
    url = f"http://127.0.0.1:{settings.airflow_port}"
    sections: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": settings.dags.absolute(),
            "executor": "LocalExecutor",
            # Each worker is a process of some 150 MB; a turn of the loop uses one at a time.
            "parallelism": 4,
            "load_examples": False,
            "dags_are_paused_at_creation": False,
            "fernet_key": secrets.airflow_fernet_key(),
            "execution_api_server_url": f"{url}/execution/",
            "simple_auth_manager_users": f"{AIRFLOW_USER}:admin",
            "simple_auth_manager_passwords_file": secrets.airflow_passwords_file,
            "plugins_folder": home.airflow / "plugins",
        },
        "database": {
            "sql_alchemy_conn": postgres.sqlalchemy_url(port, "airflow"),
            "sql_alchemy_conn_async": "",
        },
        "api": {
            "host": settings.host,
            "port": settings.airflow_port,
            "base_url": url,
            "workers": 1,
            "secret_key": secrets.airflow_jwt_secret(),
        },
        "api_auth": {"jwt_secret": secrets.airflow_jwt_secret()},
        "scheduler": {
            "scheduler_idle_sleep_time": 0.5,
            # A scheduler that was killed takes its tasks with it. The next one takes those up when
            # the first has been silent for so long; by default it would look after 5 minutes only.
            "scheduler_health_check_threshold": 15,
            "orphaned_tasks_check_interval": 10,
            # Seconds without a sign of life after which a task is tried again.
            "task_instance_heartbeat_timeout": 30,
        },
        # So many times 5 s a task outlives an API server that is away.
        "workers": {"max_failed_heartbeats": 12},
        "dag_processor": {"refresh_interval": 5},
        "logging": {"base_log_folder": home.logs / "airflow", "logging_level": "INFO"},
        "usage_data_collection": {"enabled": False},
    }
    parser = configparser.RawConfigParser()
    parser.read_dict({k: {o: str(v) for o, v in s.items()} for k, s in sections.items()})
    text = StringIO()
    parser.write(text)
    home.airflow.mkdir(mode=0o700, exist_ok=True)
    write_private(home.airflow / "airflow.cfg", text.getvalue().replace("%", "%%"))


def warm_up(settings: MeshSettings) -> None:
    """Let the API server build the part that tasks talk to: its first call takes seconds."""
    url = f"http://127.0.0.1:{settings.airflow_port}/execution/health"
    try:
        httpx.get(url, timeout=WARM_UP_TIMEOUT_S, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise CliError(f"Airflow's task interface does not answer: {error}") from error


def migrate(home: MeshHome, settings: MeshSettings, extra: dict[str, str]) -> None:
    """Create or upgrade the tables of Airflow's database."""
    result = subprocess.run(
        [binary(settings), "db", "migrate"],
        env={**os.environ, **environment(home, settings), **extra},
        capture_output=True,
        text=True,
        timeout=MIGRATION_TIMEOUT_S,
        check=False,
    )
    (home.logs / "airflow-migrate.log").write_text(result.stdout + result.stderr)
    if result.returncode:
        raise CliError(f"`airflow db migrate` failed; see {home.logs / 'airflow-migrate.log'}")
