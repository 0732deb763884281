"""A local mesh's settings, the paths in its folder, and the record that `mesh up` leaves there."""

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
from service_kit.database_roles.names import AUDIT_DAYS

# A Unix socket's path has at most 107 characters.
_MAX_SOCKET_PATH = 100


def project_folder() -> Path:
    """The folder that holds the virtual environment `.venv`, else the working directory."""
    prefix = Path(sys.prefix)
    return prefix.parent if prefix.name == ".venv" else Path.cwd()


def compose_folder() -> Path:
    """The folder of compose.yaml: MESH_COMPOSE_FOLDER, else the project folder."""
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

    tls: bool = False
    """Clients come with TLS; the certificate is made unless one is given."""

    tls_names: str = ""
    """More names and addresses of the mesh for its certificate, separated by commas."""

    certificate: Path | None = None
    """PEM file of a certificate for clients who ask for one of its names; read when it changes."""

    key: Path | None = None
    """PEM file of its private key, without a password."""

    envoy_workers: int = Field(default=0, ge=0)
    """Envoy's worker threads; 0: one for every four cores."""

    replicas: int = Field(default=2, ge=1, le=64)
    """Inference replicas."""

    device: str = "auto"
    """Device of the training service: auto, cpu or cuda."""

    retention_days: int = Field(default=30, ge=1, le=3650)
    """Days for which Airflow's runs with their logs stay, and what was deleted in MLflow."""

    audit_days: int = Field(default=AUDIT_DAYS, ge=1, le=36_500)
    """Days for which the audit keeps who changed what."""

    @property
    def published_ports(self) -> tuple[int, ...]:
        """The four ports that are settings."""
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
        self.tls = self.secrets / "tls"

    @property
    def supervisord_socket(self) -> Path:
        """Socket of supervisord; in the temporary folder when its path here would be too long."""
        path = self.run / "supervisor.sock"
        if len(str(path)) <= _MAX_SOCKET_PATH:
            return path
        digest = sha256(str(self.root).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"mesh-{os.getuid()}-{digest}.sock"

    def make_folders(self) -> None:
        """Create the folders, readable by the owner only. Raises CliError."""
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
        """Write the record: run id, settings and ports."""
        write_private(self.record_file, json.dumps(record, indent=1))

    def record(self) -> dict[str, Any]:
        """Read the record. Raises NotUp when there is none."""
        try:
            record: dict[str, Any] = json.loads(self.record_file.read_text())
        except FileNotFoundError:
            raise NotUp(f"no mesh is up in {self.root}: run `mesh up`") from None
        return record


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read. Readers see the old file or the whole new one."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
