"""Whose turn it is among those that wait for the engine."""

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

# Entries at which those that say nothing any more are dropped.
_MANY = 128


class FairShare(Generic[K]):
    """Gives everyone who waits the same time on the engine (start-time fair queuing).

    Each turn is charged with its seconds, and the turn goes to the one that has been charged least
    since the others began to wait. Time that somebody did not use is not owed to them: whoever
    waited for nothing begins where the others are.
    """

    def __init__(self) -> None:
        self._due: dict[K, float] = {}
        self._now = 0.0

    def choose(self, waiting: Sequence[K]) -> K:
        """Return the one whose turn it is; the first of several. `waiting` is not empty."""
        chosen = waiting[0] if len(waiting) == 1 else min(waiting, key=self._start)
        self._now = self._start(chosen)
        return chosen

    def charge(self, one: K, seconds: float) -> None:
        """Charge somebody with seconds; with less than nothing, to give back."""
        if len(self._due) > _MANY:
            self._due = {other: due for other, due in self._due.items() if due > self._now}
        self._due[one] = self._start(one) + seconds

    def _start(self, one: K) -> float:
        due = self._due.get(one, 0.0)
        return due if due > self._now else self._now
