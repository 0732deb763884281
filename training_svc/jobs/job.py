"""A training job and the states that it goes through.

QUEUED → RUNNING → EVALUATING → SUCCEEDED, with FAILED and CANCELLED open from each of the first
three. A FAILED or CANCELLED job that is submitted again is QUEUED with its next attempt.

An EVALUATING job is `committed` once its decision is being carried out: from then on it cannot be
cancelled, so no version is ever promoted by a job that says CANCELLED.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """As in mesh.v1.TrainingState, without its prefix."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    EVALUATING = "EVALUATING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether a job in this state has ended, so that only a caller can change it."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Promotion(StrEnum):
    """As in mesh.v1.Promotion, without its prefix."""

    AUTO = "AUTO"
    CHALLENGER_ONLY = "CHALLENGER_ONLY"


@dataclass(frozen=True)
class Params:
    """The caller's hyperparameters; 0 or an empty string leaves the choice to the service."""

    base_model: str = ""
    epochs: int = 0
    batch_size: int = 0
    learning_rate: float = 0.0
    max_length: int = 0
    seed: int = 0
    warm_start: bool = False
    max_examples: int = 0


@dataclass(frozen=True)
class Submission:
    """What a caller asks for."""

    model: str
    request_id: str
    params: Params = Params()
    promotion: Promotion = Promotion.AUTO
    serve: bool = False  # the fleet is to serve the version once it is promoted


@dataclass(frozen=True)
class Job:
    """One row of mesh.training_jobs. `progress`, `decision` and `rows` have the keys of their
    messages in train.proto."""

    id: str
    request_id: str
    model: str
    state: State = State.QUEUED
    attempt: int = 1
    params: Params = Params()
    promotion: Promotion = Promotion.AUTO
    serve: bool = False
    device: str = ""
    progress: Mapping[str, Any] | None = None
    run_id: str = ""
    version: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    decision: Mapping[str, Any] | None = None
    rows: Mapping[str, Any] | None = None
    error: str = ""
    lasting_error: bool = False  # another attempt would fail in the same way
    cancel_requested: bool = False
    committed: bool = False
    created_at: datetime | None = None
    queued_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def folder_name(self) -> str:
        """Name of the attempt's folder; a resumed attempt has the same folder again."""
        return f"{self.id}-{self.attempt}"

    def started(self) -> "Job":
        """The job as its child process starts, for the first time or again."""
        if self.state is not State.QUEUED:
            return self
        return replace(self, state=State.RUNNING, started_at=datetime.now(UTC))

    def reported(self, report: Mapping[str, Any]) -> "Job":
        """The job after one report of its child process; keys outside REPORTABLE are ignored."""
        changes = {key: value for key, value in report.items() if key in REPORTABLE}
        if "state" in changes:
            changes["state"] = State(changes["state"])
        return replace(self, **changes)

    def ended(self, state: State, error: str = "", *, lasting: bool = False) -> "Job":
        """The job in its final state."""
        now = datetime.now(UTC)
        return replace(self, state=state, error=error, lasting_error=lasting, ended_at=now)

    def requeued(self) -> "Job":
        """The next attempt of a job that failed or was cancelled."""
        return Job(
            id=self.id,
            request_id=self.request_id,
            model=self.model,
            attempt=self.attempt + 1,
            params=self.params,
            promotion=self.promotion,
            serve=self.serve,
            created_at=self.created_at,
            queued_at=datetime.now(UTC),
        )

    def params_as_dict(self) -> dict[str, Any]:
        """The hyperparameters, ready for JSON."""
        return asdict(self.params)


# Fields of a job that its child process may set.
REPORTABLE = frozenset(
    {"state", "device", "progress", "run_id", "version", "metrics", "decision", "rows"}
)
