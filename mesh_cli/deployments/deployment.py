"""What the verbs need of a mesh, wherever its parts run."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mesh_cli.rows.csv_files import Row

# Called with what became of each replica, and with how many steps there are in all.
Report = Callable[[str, int], None]


@dataclass(frozen=True)
class PartStatus:
    """State of one part: healthy, or in `detail` why not."""

    name: str
    healthy: bool
    pid: int | None
    url: str
    detail: str


@dataclass(frozen=True)
class Scaled:
    """What was done, names of replicas."""

    replicas: list[str]
    added: list[str]
    removed: list[str]


class Deployment(Protocol):
    """A mesh as local processes or as containers."""

    @property
    def home(self) -> str:
        """Folder that it belongs to."""

    @property
    def ends_with_terminal(self) -> bool:
        """Whether `mesh up` without --detach stays, and Ctrl-C stops the mesh."""

    @property
    def stop_command(self) -> str:
        """What a person types to stop it."""

    @property
    def address(self) -> str:
        """host:port of Envoy. Raises NotUp."""

    def is_up(self) -> bool:
        """Whether there is somebody to speak to."""

    def start(self) -> None:
        """Start every part, show how far it is, and return when all are healthy.

        Raises CliError.
        """

    def stop(self) -> None:
        """Stop every part; state stays. Raises CliError."""

    def statuses(self) -> list[PartStatus]:
        """State of every part. Raises NotUp when it was never started."""

    def urls(self) -> dict[str, str]:
        """URLs of the doors that are open: mesh, mlflow, airflow and others."""

    def ports(self) -> dict[str, int]:
        """Its ports on this machine by name."""

    def airflow_password(self) -> str:
        """Password of Airflow's user. Raises CliError."""

    def database(self) -> str:
        """How a person reaches the training database: its URL, or a command."""

    def show_log(self, part: str, follow: bool, lines: int) -> int:
        """Print the end of a part's log; the exit code. Raises BadInput for an unknown part."""

    def scale(self, count: int, report: Report) -> Scaled:
        """Bring the replicas to another number while traffic goes on. Raises CliError."""

    def build(self) -> None:
        """Build the replicas' image and show how far it is. Raises CliError."""

    def roll(self, report: Report) -> Scaled:
        """Replace every replica while traffic goes on. Raises CliError."""

    def insert(self, model: str, rows: Sequence[Row]) -> None:
        """Insert rows into a model's training table by one SQL statement; they are committed."""
