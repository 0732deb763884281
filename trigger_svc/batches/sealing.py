"""When the waiting rows of a model become a batch: pure rules."""

from dataclasses import dataclass

from trigger_svc.batches.batch import BatchReason, OpenBatch


@dataclass(frozen=True)
class SealPolicy:
    """Limits of one model: rows, and seconds."""

    rows: int
    quiet_s: float
    age_s: float


@dataclass(frozen=True)
class Waiting:
    """Rows in no batch yet, and the seconds since the first and the last of them came."""

    rows: int
    oldest_s: float
    newest_s: float


@dataclass(frozen=True)
class ModelWork:
    """What there is to do for one model: rows that wait, the first batch that is open."""

    model: str
    policy: SealPolicy
    waiting: Waiting | None
    batch: OpenBatch | None


def seal_reason(waiting: Waiting, policy: SealPolicy) -> BatchReason | None:
    """Return why the rows are to be sealed now, or None when they are to wait."""
    if waiting.rows >= policy.rows:
        return BatchReason.COUNT
    if waiting.oldest_s >= policy.age_s:
        return BatchReason.AGE
    if waiting.newest_s >= policy.quiet_s:
        return BatchReason.QUIET
    return None


def seal_due_in(waiting: Waiting, policy: SealPolicy) -> float:
    """Return the seconds until rows are to be sealed if no more come."""
    due = min(policy.quiet_s - waiting.newest_s, policy.age_s - waiting.oldest_s)
    return max(due, 0.0)
