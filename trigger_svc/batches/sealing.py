"""The rules by which the waiting rows of a model become a batch, as pure functions."""

from dataclasses import dataclass

from trigger_svc.batches.batch import BatchReason, OpenBatch


@dataclass(frozen=True)
class SealPolicy:
    """Limits of one model: rows seal a batch when they reach one of them."""

    rows: int
    quiet_s: float
    """Seconds since the newest row."""
    age_s: float
    """Seconds since the oldest row."""


@dataclass(frozen=True)
class Waiting:
    """The number of rows that are in no batch, and the seconds since the first and last came."""

    rows: int
    oldest_s: float
    newest_s: float


@dataclass(frozen=True)
class ModelWork:
    """The work for one model: its waiting rows, and the open batch that is next."""

    model: str
    policy: SealPolicy
    waiting: Waiting | None
    batch: OpenBatch | None


def seal_reason(waiting: Waiting, policy: SealPolicy) -> BatchReason | None:
    """Return why the rows have to be sealed now, or None when they have to wait."""
    if waiting.rows >= policy.rows:
        return BatchReason.COUNT
    if waiting.oldest_s >= policy.age_s:
        return BatchReason.AGE
    if waiting.newest_s >= policy.quiet_s:
        return BatchReason.QUIET
    return None


def seal_due_in(waiting: Waiting, policy: SealPolicy) -> float:
    """Return the seconds until the rows have to be sealed if no more come."""
    due = min(policy.quiet_s - waiting.newest_s, policy.age_s - waiting.oldest_s)
    return max(due, 0.0)
