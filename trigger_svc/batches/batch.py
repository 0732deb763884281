"""A batch: the rows of one model that start one DAG run together."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class BatchReason(StrEnum):
    """Why a batch was sealed; the names are those of mesh.v1.BatchReason."""

    COUNT = "COUNT"
    QUIET = "QUIET"
    AGE = "AGE"
    MANUAL = "MANUAL"
    IMPORT = "IMPORT"


class BatchState(StrEnum):
    """State of a batch; the names are those of mesh.v1.BatchState."""

    SEALED = "SEALED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    DEAD = "DEAD"


@dataclass(frozen=True)
class Batch:
    """A batch in its present state; `posted_at` is None until Airflow has accepted its run."""

    id: str
    model: str
    rows: int
    reason: BatchReason
    state: BatchState
    sealed_at: datetime
    posted_at: datetime | None = None
    ended_at: datetime | None = None
    retries: int = 0
    error: str = ""
    key: str = ""
    """Tells this batch from another of the same id; see mesh.batches.key."""
    number: int = 0


@dataclass(frozen=True)
class OpenBatch:
    """The bridge's view of a batch that has not ended: SEALED or RUNNING."""

    id: str
    model: str
    rows: int
    reason: BatchReason
    state: BatchState
    key: str = ""
    """Tells this batch from another of the same id; see mesh.batches.key."""
    retries: int = 0
    """How many times callers had it sent again."""
    running_s: float = 0.0
    """Seconds since Airflow accepted its run."""


def batch_id(model: str, number: int) -> str:
    """Return the id of a model's batch, which is also the id of its DAG run."""
    return f"retrain__{model}__{number}"
