"""How fast the engine has been lately."""

from collections.abc import Sequence
from itertools import accumulate

# Weight that earlier batches keep at each new one.
_MEMORY = 0.9
# Assumed until the first batch; it weighs next to nothing afterwards.
_GUESS_PER_SECOND = 10_000


class Throughput:
    """Recent cost (expected tokens) a second."""

    def __init__(self) -> None:
        self._cost = 1.0
        self._seconds = 1 / _GUESS_PER_SECOND

    def observe(self, cost: int, seconds: float) -> None:
        """Add one batch."""
        self._cost = _MEMORY * self._cost + cost
        self._seconds = _MEMORY * self._seconds + seconds

    def seconds(self, cost: float) -> float:
        """Time that work of this cost takes."""
        return cost * self._seconds / self._cost

    def ranks(self, arrived: float, costs: Sequence[int]) -> list[float]:
        """Times at which texts of these costs begin, one after the other from `arrived` on."""
        before = accumulate(costs[:-1], initial=0)
        return [arrived + self.seconds(cost) for cost in before]
