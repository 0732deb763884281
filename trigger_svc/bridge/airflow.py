"""The interface of Airflow that the bridge uses."""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

KEY = "batch_key"  # in a run's configuration


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

    @property
    def key(self) -> str:
        """Tells this run from another of the same id; runs of earlier releases have none."""
        return key_of(self.conf)


class Foreign(Exception):
    """Airflow has a run of this id that is another batch's."""


class Refused(Exception):
    """Airflow will never take this run; the message says why."""


def key_of(conf: object) -> str:
    """Return the key in the configuration of a run, "" when it has none."""
    return str(conf.get(KEY, "")) if isinstance(conf, dict) else ""


class Airflow(Protocol):
    """The calls to Airflow that the bridge makes.

    Every method raises service_kit.errors.Unavailable when the same call may work later.
    """

    async def start_run(self, run: Run) -> None:
        """Start the run unless it exists already. Raises Refused, Foreign."""

    async def restart_run(self, run_id: str) -> None:
        """Run all tasks of a run that has ended again. Raises Refused."""

    async def run_state(self, run_id: str, key: str) -> RunState:
        """Return the state of the run. Raises Foreign when the run has another key."""

    async def failed_tasks(self, run_id: str) -> list[str]:
        """Return the ids of the run's tasks that failed."""

    async def is_paused(self) -> bool:
        """Return whether the DAG is paused: then its runs wait."""

    async def close(self) -> None:
        """Close the connections."""
