"""The interface of Airflow that the bridge uses."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol


class RunState(Enum):
    """The state of a DAG run."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"
    """No such run exists: it was never made, or somebody deleted it."""


@dataclass(frozen=True)
class Run:
    """A DAG run to start. Starting the same id twice makes one run."""

    id: str
    conf: dict[str, Any]


class Refused(Exception):
    """Airflow will never take this run; the message says why."""


class Airflow(Protocol):
    """The calls to Airflow that the bridge makes.

    Every method raises service_kit.errors.Unavailable when the same call may work later.
    """

    async def start_run(self, run: Run) -> None:
        """Start the run unless it exists already. Raises Refused."""

    async def restart_run(self, run_id: str) -> None:
        """Run all tasks of a run that has ended again. Raises Refused."""

    async def run_state(self, run_id: str) -> RunState:
        """Return the state of the run."""

    async def close(self) -> None:
        """Close the connections."""
