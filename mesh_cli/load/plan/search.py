"""Finds the highest rate that holds a latency target."""

from collections.abc import Callable
from dataclasses import dataclass

PRECISION = 1.05
# Widens until one rate holds and one does not: carefully at first, then in doubles.
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
        """Whether every request was answered and 99 of 100 within the target."""
        good = self.p99_ms is not None and self.p99_ms <= target_ms
        return good and not self.failed


def find_rate(
    measure: Callable[[float], Step], target_ms: float, first: float
) -> tuple[Step | None, list[Step]]:
    """The best step, to about 5 % (None: not even the lowest rate holds), and every step.

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
