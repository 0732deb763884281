"""Where a local mesh lives: its folder, its settings, and what `mesh up` wrote down there."""

import json
import os
import sys
import tempfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from mesh_cli.errors import CliError, NotUp

# A Unix socket's path has at most 107 characters.
_MAX_SOCKET_PATH = 100


def project_folder() -> Path:
    """The folder of the virtual environment's parent, else the working directory."""
    prefix = Path(sys.prefix)
    return prefix.parent if prefix.name == ".venv" else Path.cwd()


def compose_folder() -> Path:
    """The folder of compose.yaml: MESH_COMPOSE_FOLDER, else the project's."""
    named = os.environ.get("MESH_COMPOSE_FOLDER")
    return Path(named).absolute() if named else project_folder()


class MeshSettings(BaseSettings):
    """Settings of a local mesh, read from MESH_… variables."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_", extra="ignore", use_attribute_docstrings=True
    )

    home: Path = Field(default_factory=lambda: project_folder() / ".mesh")
    """State of the mesh: database, models, logs, secrets."""

    airflow_venv: Path = Field(default_factory=lambda: project_folder() / ".venv-airflow")
    """Virtual environment of Airflow."""

    dags: Path = Field(default_factory=lambda: project_folder() / "dags")
    """Folder of the DAGs."""

    host: str = "127.0.0.1"
    """Address on which Envoy, MLflow and Airflow listen."""

    port: int = 8000
    """Envoy: gRPC, JSON and gRPC-Web."""

    envoy_admin_port: int = 9901
    """Envoy's admin page, on loopback only."""

    mlflow_port: int = 5001
    """MLflow."""

    airflow_port: int = 8080
    """Airflow's UI and API."""

    envoy_workers: int = Field(default=0, ge=0)
    """Envoy's worker threads; 0: one for every four cores."""

    replicas: int = Field(default=2, ge=1, le=64)
    """Inference replicas."""

    device: str = "auto"
    """Device of the training service: auto, cpu or cuda."""

    @property
    def published_ports(self) -> tuple[int, ...]:
        """Ports that are settings."""
        return self.port, self.envoy_admin_port, self.mlflow_port, self.airflow_port


class MeshHome:
    """Paths inside MESH_HOME and the record that `mesh up` leaves there."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.logs = self.root / "logs"
        self.secrets = self.root / "secrets"
        self.run = self.root / "run"
        self.record_file = self.run / "mesh.json"
        self.supervisord_config = self.run / "supervisord.conf"
        self.supervisord_log = self.logs / "supervisord.log"
        self.envoy_config = self.run / "envoy.pb"
        self.replicas_file = self.run / "replicas"
        self.postgres_data = self.root / "postgres"
        self.artifacts = self.root / "artifacts"
        self.airflow = self.root / "airflow"

    @property
    def supervisord_socket(self) -> Path:
        """Socket of supervisord, in the temporary folder when the path would be too long."""
        path = self.run / "supervisor.sock"
        if len(str(path)) <= _MAX_SOCKET_PATH:
            return path
        digest = sha256(str(self.root).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mesh-{os.getuid()}-{digest}.sock"

    def make_folders(self) -> None:
        """Create the folders, readable by the owner only. Raises CliError when it cannot."""
        try:
            for folder in (self.root, self.logs, self.secrets, self.run, self.artifacts):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            probe = self.run / ".writable"
            probe.write_text("")
            probe.unlink()
        except OSError as error:
            raise CliError(
                f"{error.filename} is not writable ({error.strerror}): "
                "set MESH_HOME to a folder that is"
            ) from error

    def write_record(self, record: dict[str, Any]) -> None:
        """Write down what `mesh up` decided (ports, run id), atomically."""
        write_private(self.record_file, json.dumps(record, indent=1))

    def record(self) -> dict[str, Any]:
        """What `mesh up` wrote down. Raises NotUp when there is nothing."""
        try:
            found: dict[str, Any] = json.loads(self.record_file.read_text())
        except FileNotFoundError:
            raise NotUp(f"no mesh is up in {self.root}: run `mesh up`") from None
        return found


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
