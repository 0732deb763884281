"""When rows are sealed, and how long the bridge waits after a failure."""

import random

import pytest

from trigger_svc.batches.batch import BatchReason
from trigger_svc.batches.sealing import SealPolicy, Waiting, seal_due_in, seal_reason
from trigger_svc.bridge.backoff import backoff_s

POLICY = SealPolicy(rows=100, quiet_s=2.0, age_s=60.0)


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        (Waiting(100, 0.1, 0.1), BatchReason.COUNT),
        (Waiting(99, 60.0, 0.1), BatchReason.AGE),
        (Waiting(1, 2.0, 2.0), BatchReason.QUIET),
        (Waiting(99, 59.9, 1.9), None),
    ],
)
def test_rows_are_sealed_by_count_age_or_quiet(
    waiting: Waiting, reason: BatchReason | None
) -> None:
    assert seal_reason(waiting, POLICY) == reason


def test_rows_are_due_at_the_earlier_of_quiet_and_age() -> None:
    assert seal_due_in(Waiting(5, 10.0, 0.5), POLICY) == 1.5
    assert seal_due_in(Waiting(5, 59.5, 0.5), POLICY) == 0.5
    assert seal_due_in(Waiting(5, 70.0, 0.5), POLICY) == 0.0


def test_backoff_grows_from_a_fifth_of_a_second_to_fifteen_for_ever() -> None:
    jitter = random.Random(1)
    assert 0.1 <= backoff_s(1, jitter) <= 0.2
    for attempt in (8, 100, 100_000):
        assert 7.5 <= backoff_s(attempt, jitter) <= 15.0


def test_backoff_is_jittered() -> None:
    jitter = random.Random(1)
    assert len({backoff_s(5, jitter) for _ in range(10)}) == 10
