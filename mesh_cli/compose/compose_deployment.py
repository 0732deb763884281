"""The Deployment of a mesh in containers."""

import csv
import io
import json
import shlex
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from mesh.client import MeshClient
from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.compose.certificates import ENVOY, TlsSettings
from mesh_cli.compose.compose_secrets import ComposeSecrets
from mesh_cli.compose.containers import INFERENCE, part_statuses, published_address, read_ps
from mesh_cli.compose.engine import Engine
from mesh_cli.compose.garbage import collect
from mesh_cli.compose.initialise import initialise, secrets_folder
from mesh_cli.compose.replicas import Replicas
from mesh_cli.deployments.deployment import PartStatus, Report, Scaled
from mesh_cli.errors import BadInput, CliError, NotUp
from mesh_cli.rows.csv_files import Row
from mesh_cli.tokens.own_tokens import OwnTokens
from service_kit.database_roles.names import OPERATOR, SHARED

MLFLOW, AIRFLOW = "mlflow", "airflow-api-server"
# Ports inside the containers that are published on this machine.
CONTAINER_PORTS = {ENVOY: 8000, MLFLOW: 5000, AIRFLOW: 8080}
# Seconds until all parts together are healthy, when images and databases exist: longer than any
# health check of compose.yaml goes on trying.
UP_TIMEOUT_S = 600
UP = "mesh --context compose up"
_URL_NAMES = {"mesh": ENVOY, "mlflow": MLFLOW, "airflow": AIRFLOW}
_GIVEN = ":'given'"
_PSQL = ("exec", "postgres", "psql", "-U", OPERATOR, "training")


class ComposeDeployment:
    """The mesh in containers of the compose.yaml in the engine's folder."""

    ends_with_terminal = False
    stop_command = "docker compose down"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def home(self) -> str:
        return str(self._engine.folder)

    @property
    def address(self) -> str:
        try:
            address = self._published(ENVOY)
        except CliError as error:
            raise NotUp(f"no mesh is up in containers ({error}): run `{UP}`") from error
        if address is None:
            raise NotUp(f"no mesh is up in containers: run `{UP}`")
        return f"https://{address}" if self._tls.on else address

    @property
    def tokens(self) -> OwnTokens:
        return OwnTokens(secrets_folder(self._engine.folder))

    @property
    def ca(self) -> Path | None:
        if not self._tls.on:
            return None
        return self._tls.certificates(secrets_folder(self._engine.folder)).ca

    def is_up(self) -> bool:
        try:
            return bool(self.address)
        except NotUp:
            return False

    def start(self, tls: TlsChoice) -> None:
        self._tls.choose(tls)
        initialise(self._engine.folder)
        with self._engine.lock():
            self._engine.show(
                *("up", "--detach", "--build", "--wait", "--wait-timeout", str(UP_TIMEOUT_S))
            )

    def stop(self) -> None:
        self._engine.show("down")

    def statuses(self) -> list[PartStatus]:
        containers = read_ps(self._engine.compose("ps", "--all", "--format", "json"))
        if not containers:
            raise NotUp(f"the mesh has no containers here: run `{UP}`")
        services = self._engine.compose("config", "--services").split()
        urls = {service: self._url(service) for service in self._addresses}
        return part_statuses(containers, sorted(services), urls)

    def urls(self) -> dict[str, str]:
        return {
            name: self._url(service)
            for name, service in _URL_NAMES.items()
            if service in self._addresses
        }

    def ports(self) -> dict[str, int]:
        return {
            service: int(address.rpartition(":")[2]) for service, address in self._addresses.items()
        }

    def airflow_password(self) -> str:
        return ComposeSecrets(secrets_folder(self._engine.folder)).airflow_password()

    def database(self) -> str:
        if Path.cwd() == self._engine.folder:
            return shlex.join(["docker", "compose", *_PSQL])
        return shlex.join(self._engine.compose_command(*_PSQL))

    def ask(self, statement: str, given: dict[str, Any], role: str = SHARED) -> Any:
        # The operator's sessions act as the owner of the training tables. psql quotes a variable in
        # the form :'given' by itself.
        text = self._engine.compose(
            *("exec", "-T", "postgres", "psql", "-U", OPERATOR, "-d", "training"),
            *("-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", "-v", f"given={json.dumps(given)}"),
            stdin=f"SET ROLE {role};\n{statement.replace('%(given)s', _GIVEN)};\n",
        ).strip()
        return json.loads(text) if text else None

    def show_log(self, part: str, follow: bool, lines: int) -> int:
        statuses = self.statuses()
        services = self._engine.compose("config", "--services").split()
        options = ["--tail", str(lines), *(["--follow"] if follow else [])]
        if part not in services:
            if part not in {status.name for status in statuses}:
                names = dict.fromkeys([*services, *(status.name for status in statuses)])
                raise BadInput(f"no part {part!r}; there are {', '.join(names)}")
            part, _, number = part.rpartition("-")
            options += ["--index", number]
        return self._engine.pass_through("logs", *options, part)

    def scale(self, count: int, report: Report) -> Scaled:
        with self._client() as client:
            return self._replicas(client, report).scale(count)

    def build(self) -> None:
        self._engine.show("build", INFERENCE)

    def roll(self, report: Report) -> Scaled:
        with self._client() as client:
            return self._replicas(client, report).roll()

    def collect_garbage(self, dry_run: bool, keep: int, days: int) -> list[dict[str, Any]]:
        """Remove what nothing needs any more, or only look for it. Raises CliError."""
        return collect(self._engine, dry_run, keep, days)

    def insert(self, model: str, rows: Sequence[Row]) -> None:
        text = io.StringIO()
        # Without quotes PostgreSQL would read an empty text as NULL.
        writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows((row.text, row.label) for row in rows)
        self._engine.compose(
            *("exec", "-T", "postgres", "psql", "-U", OPERATOR, "-d", "training"),
            *("-q", "-v", "ON_ERROR_STOP=1"),
            *("-c", f'COPY training."{model}" (text, label) FROM STDIN WITH (FORMAT csv)'),
            stdin=text.getvalue(),
        )

    @property
    def _tls(self) -> TlsSettings:
        return TlsSettings(self._engine.folder)

    def _url(self, service: str) -> str:
        scheme = "https" if service == ENVOY and self._tls.on else "http"
        return f"{scheme}://{self._addresses[service]}"

    def _client(self) -> MeshClient:
        ca = str(self.ca) if self.ca else None
        return MeshClient(self.address, token=self.tokens.operator, ca=ca)

    def _replicas(self, client: MeshClient, report: Report) -> Replicas:
        return Replicas(self._engine, client.get_fleet, self.is_up, report)

    @cached_property
    def _addresses(self) -> dict[str, str]:
        """host:port of each service that is published now."""
        addresses = {service: self._published_or_none(service) for service in CONTAINER_PORTS}
        return {service: address for service, address in addresses.items() if address}

    def _published_or_none(self, service: str) -> str | None:
        try:
            return self._published(service)
        except CliError:
            # The service has no container; `statuses` says so.
            return None

    def _published(self, service: str) -> str | None:
        text = self._engine.compose("port", service, str(CONTAINER_PORTS[service]))
        address = published_address(text)
        return f"{address[0]}:{address[1]}" if address else None
