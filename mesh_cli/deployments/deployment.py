"""The interface of a mesh that the verbs use, and its plain values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mesh_cli.certificates.choice import TlsChoice
from mesh_cli.rows.csv_files import Row
from mesh_cli.tokens.own_tokens import OwnTokens
from service_kit.database_roles.names import SHARED

# Called after each step of a change with its text, such as "replica-3 joined", and with the number
# of steps in all.
Report = Callable[[str, int], None]


@dataclass(frozen=True)
class PartStatus:
    """State of one part; `detail` says why it is not healthy."""

    name: str
    healthy: bool
    pid: int | None
    url: str
    detail: str


@dataclass(frozen=True)
class Scaled:
    """Names of the replicas after a change, and of those that it added and removed."""

    replicas: list[str]
    added: list[str]
    removed: list[str]


class Deployment(Protocol):
    """A mesh as local processes or as containers."""

    @property
    def home(self) -> str:
        """Folder of the mesh: MESH_HOME, or the folder of compose.yaml."""

    @property
    def ends_with_terminal(self) -> bool:
        """Whether `mesh up` without --detach stays, and Ctrl-C stops the mesh."""

    @property
    def stop_command(self) -> str:
        """The command that stops it, as a person types it."""

    @property
    def address(self) -> str:
        """Address of Envoy: host:port, or https://host:port. Raises NotUp."""

    @property
    def tokens(self) -> OwnTokens:
        """Its keys and its own tokens, as files that `start` makes."""

    @property
    def ca(self) -> Path | None:
        """File of the authority that clients on this machine trust; None without TLS.

        Raises NotUp.
        """

    def is_up(self) -> bool:
        """Whether the mesh has been started and not stopped."""

    def start(self, tls: TlsChoice) -> None:
        """Start every part, show the progress, and return when all are healthy.

        Raises CliError.
        """

    def stop(self) -> None:
        """Stop every part; the state stays. Raises CliError."""

    def statuses(self) -> list[PartStatus]:
        """State of every part. Raises NotUp when the mesh was never started."""

    def urls(self) -> dict[str, str]:
        """URLs by name, of the doors that are open: mesh, mlflow, airflow and others."""

    def ports(self) -> dict[str, int]:
        """Its ports on this machine by name."""

    def airflow_password(self) -> str:
        """Password of Airflow's user. Raises CliError."""

    def database(self) -> str:
        """How a person reaches the training database: its URL, or a command."""

    def ask(self, statement: str, given: dict[str, Any], role: str = SHARED) -> Any:
        """Run a statement in the training database as a role of which the operator is a member; see
        audit_table.Ask. Raises CliError."""

    def show_log(self, part: str, follow: bool, lines: int) -> int:
        """Print the end of a part's log; returns an exit code. Raises BadInput."""

    def scale(self, count: int, report: Report) -> Scaled:
        """Bring the replicas to `count` while traffic goes on. Raises CliError."""

    def build(self) -> None:
        """Build the replicas' image and show the progress. Raises CliError."""

    def roll(self, report: Report) -> Scaled:
        """Replace every replica while traffic goes on. Raises CliError."""

    def insert(self, model: str, rows: Sequence[Row]) -> None:
        """Insert rows into a model's training table by one SQL statement, and commit."""
