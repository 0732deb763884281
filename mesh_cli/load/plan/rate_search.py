"""Finds the highest rate that holds a latency target."""

from collections.abc import Callable
from dataclasses import dataclass

# The search ends when the lowest rate that does not hold is at most this many times the best one.
PRECISION = 1.05
# Factors between two rates until one holds and one does not. The first SHORT_STRIDES are small.
STRIDE = 1.4
LONG_STRIDE = 2.0
SHORT_STRIDES = 3
MOST_STEPS = 24
LOWEST_RATE = 1.0


@dataclass(frozen=True)
class Step:
    """One rate that was tried."""

    rate: float
    """Requests a second."""
    p99_ms: float | None
    """None: there was no good answer."""
    failed: int
    """Requests that failed."""
    lagging: bool = False
    """Whether the load generator itself could not keep up."""

    def holds(self, target_ms: float) -> bool:
        """Whether no request failed and 99 of 100 were answered within the target."""
        good = self.p99_ms is not None and self.p99_ms <= target_ms
        return good and not self.failed


def find_rate(
    measure: Callable[[float], Step], target_ms: float, first: float
) -> tuple[Step | None, list[Step]]:
    """The step with the highest rate that holds, to about 5 %, and every step in its order.

    The first is None when not even LOWEST_RATE holds.

    `measure` runs an open loop at a rate; `first` is the rate to begin with.
    """
    steps: list[Step] = []
    best: Step | None = None
    too_high: float | None = None
    rate = max(first, LOWEST_RATE)
    while len(steps) < MOST_STEPS:
        step = measure(rate)
        steps.append(step)
        if step.holds(target_ms):
            best = step
        else:
            too_high = rate
        stride = STRIDE if len(steps) <= SHORT_STRIDES else LONG_STRIDE
        if too_high is None:
            rate *= stride
        elif best is None:
            if rate <= LOWEST_RATE:
                break
            rate = max(rate / stride, LOWEST_RATE)
        elif too_high / best.rate <= PRECISION:
            break
        else:
            rate = (too_high * best.rate) ** 0.5
    return best, steps
