"""Configuration of a local mesh's Airflow: three processes on the mesh's own PostgreSQL."""

import configparser
import os
import shutil
import subprocess
from io import StringIO
from pathlib import Path

import httpx

from mesh_cli.errors import CliError
from mesh_cli.local import postgres
from mesh_cli.local.certificates import certificates_of
from mesh_cli.local.home import MeshHome, MeshSettings, write_private
from mesh_cli.local.local_secrets import AIRFLOW_USER, LocalSecrets
from mesh_cli.tokens.own_tokens import AIRFLOW_FILE
from service_kit.database_roles.names import AIRFLOW

PARTS = ("api-server", "scheduler", "dag-processor")
ARGUMENTS = {
    # Without this option a log server listens on every interface, at one fixed port.
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


def log_folder(home: MeshHome) -> Path:
    """The folder of the logs of tasks and of parsing DAGs."""
    return home.logs / "airflow"


def environment(home: MeshHome, settings: MeshSettings, secrets: LocalSecrets) -> dict[str, str]:
    """Environment of every Airflow process; its settings and keys are in airflow.cfg."""
    # Airflow starts its own programs by name, so its `bin` comes first.
    path = f"{settings.airflow_venv / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    trusted = {"MESH_CA": str(certificates_of(home, settings).ca)} if settings.tls else {}
    return {
        "AIRFLOW_HOME": str(home.airflow),
        "PATH": path,
        "PGPASSFILE": str(secrets.pgpass_file(AIRFLOW)),
        "PYTHONUNBUFFERED": "1",
        "MESH_ADDRESS": f"{'https://' if settings.tls else ''}127.0.0.1:{settings.port}",
        **trusted,
        "MESH_TOKEN_FILE": str(home.secrets / AIRFLOW_FILE),
        "NO_PROXY": "127.0.0.1,localhost",
    }


def read_only_dags(home: MeshHome, settings: MeshSettings) -> Path:
    """Copy the DAGs to where Airflow reads them, and return that folder.

    No file of the copy, and no folder, may be written: a process of the same user that can be
    brought to write a file somewhere cannot give Airflow a program to run. Airflow's folder of
    plugins is empty and closed in the same way. Raises CliError.
    """
    target = home.airflow / "dags"
    home.airflow.mkdir(mode=0o700, exist_ok=True)
    _open(target)
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(settings.dags, target, ignore=shutil.ignore_patterns("__pycache__"))
    except OSError as error:
        raise CliError(f"the DAGs in {settings.dags} cannot be copied: {error}") from error
    plugins = home.airflow / "plugins"
    plugins.mkdir(exist_ok=True)
    _close(target)
    _close(plugins)
    return target


def _open(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")] if folder.exists() else ():
        if path.is_dir():
            path.chmod(0o700)


def _close(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def write_config(home: MeshHome, settings: MeshSettings, secrets: LocalSecrets, port: int) -> None:
    """Write airflow.cfg, readable by the owner only."""
    secrets.airflow_password()
    url = f"http://127.0.0.1:{settings.airflow_port}"
    sections: dict[str, dict[str, object]] = {
        "core": {
            "dags_folder": read_only_dags(home, settings),
            "executor": "LocalExecutor",
            # Workers. Each is a process of some 150 MB; a turn of the loop uses one at a time.
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
            "sql_alchemy_conn": postgres.sqlalchemy_url(port, AIRFLOW, "airflow"),
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
            # A killed scheduler leaves tasks behind. The next scheduler takes them up when the
            # killed one has given no sign of life for 15 s; it looks every 10 s, where Airflow's
            # default is 5 minutes.
            "scheduler_health_check_threshold": 15,
            "orphaned_tasks_check_interval": 10,
            # A task is tried again after 30 s without a sign of life.
            "task_instance_heartbeat_timeout": 30,
        },
        # Heartbeats, 5 s apart, that may fail while the API server is away before a task gives up.
        "workers": {"max_failed_heartbeats": 12},
        "dag_processor": {"refresh_interval": 5},
        "logging": {"base_log_folder": log_folder(home), "logging_level": "INFO"},
        "usage_data_collection": {"enabled": False},
    }
    parser = configparser.RawConfigParser()
    parser.read_dict({k: {o: str(v) for o, v in s.items()} for k, s in sections.items()})
    text = StringIO()
    parser.write(text)
    home.airflow.mkdir(mode=0o700, exist_ok=True)
    write_private(home.airflow / "airflow.cfg", text.getvalue().replace("%", "%%"))


def warm_up(settings: MeshSettings) -> None:
    """Make a first call to the interface that tasks use, which takes seconds to be built.

    Raises CliError when it does not answer.
    """
    url = f"http://127.0.0.1:{settings.airflow_port}/execution/health"
    try:
        httpx.get(url, timeout=WARM_UP_TIMEOUT_S, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise CliError(f"Airflow's task interface does not answer: {error}") from error


def migrate(
    home: MeshHome, settings: MeshSettings, secrets: LocalSecrets, extra: dict[str, str]
) -> None:
    """Create or upgrade the tables of Airflow's database. Raises CliError when that fails."""
    result = subprocess.run(
        [binary(settings), "db", "migrate"],
        env={**os.environ, **environment(home, settings, secrets), **extra},
        capture_output=True,
        text=True,
        timeout=MIGRATION_TIMEOUT_S,
        check=False,
    )
    (home.logs / "airflow-migrate.log").write_text(result.stdout + result.stderr)
    if result.returncode:
        raise CliError(f"`airflow db migrate` failed; see {home.logs / 'airflow-migrate.log'}")
