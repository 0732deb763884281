"""The Deployment of a mesh of local processes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg2
from psycopg2 import sql

from mesh.client import MeshClient
from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.deployments.deployment import PartStatus, Report, Scaled
from mesh_cli.errors import BadInput, CliError, NotUp
from mesh_cli.local.local_mesh import LocalMesh
from mesh_cli.local.scale import Scaling
from mesh_cli.rows.csv_files import Row
from mesh_cli.terminal import log_lines, output
from mesh_cli.tokens.own_tokens import OwnTokens
from service_kit.database import connect
from service_kit.database_roles.names import SHARED
from service_kit.errors import Unavailable

NO_IMAGES = (
    "`mesh roll` replaces containers: `mesh --context compose roll`; "
    "a local mesh takes new code by `mesh down` and `mesh up`"
)


class LocalDeployment:
    """The mesh of processes in MESH_HOME."""

    ends_with_terminal = True
    stop_command = "make down"

    def __init__(self, mesh: LocalMesh) -> None:
        self._mesh = mesh

    @property
    def home(self) -> str:
        return str(self._mesh.home.root)

    @property
    def address(self) -> str:
        if not self._mesh.is_up():
            raise NotUp(f"no mesh is up in {self.home}: run `mesh up`")
        return self._mesh.address

    @property
    def tokens(self) -> OwnTokens:
        return self._mesh.secrets.tokens

    @property
    def ca(self) -> Path | None:
        return self._mesh.ca

    def is_up(self) -> bool:
        return self._mesh.is_up()

    def start(self, tls: TlsChoice) -> None:
        self._mesh.choose_tls(tls)
        with output.progress() as progress:
            task = progress.add_task("starting", total=self._mesh.steps, note="")
            self._mesh.up(lambda step: output.advance(progress, task, step))

    def stop(self) -> None:
        with output.errors.status("stopping"):
            self._mesh.down()

    def statuses(self) -> list[PartStatus]:
        return self._mesh.statuses()

    def urls(self) -> dict[str, str]:
        settings = self._mesh.settings
        return {
            "mesh": f"{'https' if settings.tls else 'http'}://127.0.0.1:{settings.port}",
            "mlflow": f"http://127.0.0.1:{settings.mlflow_port}",
            "airflow": f"http://127.0.0.1:{settings.airflow_port}",
            "postgres": self._mesh.database_url,
            "envoy_admin": f"http://127.0.0.1:{settings.envoy_admin_port}",
        }

    def ports(self) -> dict[str, int]:
        ports: dict[str, int] = self._mesh.record["ports"]
        return ports

    def airflow_password(self) -> str:
        return self._mesh.secrets.airflow_password()

    def database(self) -> str:
        return self._mesh.database_url

    def ask(self, statement: str, given: dict[str, Any], role: str = SHARED) -> Any:
        try:
            connection = connect(self._mesh.database_url, "mesh")
            try:
                with connection, connection.cursor() as cursor:
                    # The operator's sessions act as the owner of the training tables.
                    cursor.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(role)))
                    cursor.execute(statement, {"given": json.dumps(given)})
                    found = cursor.fetchone() if cursor.description else None
            finally:
                connection.close()
        except (Unavailable, psycopg2.Error) as error:
            why = str(error).strip().partition("\n")[0]
            raise CliError(f"the database does not answer ({why}): is the mesh up?") from error
        return None if found is None else found[0]

    def show_log(self, part: str, follow: bool, lines: int) -> int:
        logs = self._mesh.home.logs
        path = logs / f"{part}.log"
        if not path.exists():
            names = sorted(log.stem for log in logs.glob("*.log"))
            raise BadInput(f"no log of {part!r}; there are {', '.join(names)}")
        command = ["tail", "-n", str(lines), *(["-F"] if follow else []), str(path)]
        return log_lines.show(command)

    def scale(self, count: int, report: Report) -> Scaled:
        ca = str(self.ca) if self.ca else None
        with MeshClient(self.address, token=self.tokens.operator, ca=ca) as client:
            return Scaling(self._mesh, client.get_fleet, report).to(count)

    def build(self) -> None:
        raise CliError(NO_IMAGES)

    def roll(self, report: Report) -> Scaled:
        raise CliError(NO_IMAGES)

    def insert(self, model: str, rows: Sequence[Row]) -> None:
        connection = connect(self._mesh.database_url, "mesh")
        try:
            with connection, connection.cursor() as cursor:
                values = sql.SQL(", ").join([sql.SQL("(%s, %s)")] * len(rows))
                statement = sql.SQL("INSERT INTO training.{} (text, label) VALUES ").format(
                    sql.Identifier(model)
                )
                cells = [cell for row in rows for cell in (row.text, row.label)]
                cursor.execute(statement + values, cells)
        finally:
            connection.close()
