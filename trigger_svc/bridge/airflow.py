"""What the bridge wants from Airflow."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class RunState(Enum):
    """How a DAG run stands."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"
    """There is no such run: somebody deleted it."""


@dataclass(frozen=True)
class Run:
    """A DAG run to be made; its id makes a repeat harmless."""

    id: str
    conf: dict[str, Any]


class Refused(Exception):
    """Airflow will never take this run; the message says why."""


class Airflow(Protocol):
    """Airflow's part of the REST API that the bridge uses.

    Every method raises service_kit.errors.Unavailable when it may work later.
    """

    async def start_run(self, run: Run) -> None:
        """Make the run unless it is there already. Raises Refused."""

    async def restart_run(self, run_id: str) -> None:
        """Let a run that has ended begin again, all its tasks. Raises Refused."""

    async def run_state(self, run_id: str) -> RunState:
        """Tell how the run stands."""

    async def close(self) -> None:
        """Let go of the connections."""
