"""Whose turn it is among those that wait for the engine."""

from collections.abc import Hashable, Iterable, MutableMapping
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class FairShare(Generic[K]):
    """Gives everyone who waits the same time on the engine (start-time fair queuing).

    Each turn is charged with its seconds, and the turn goes to the one that has been charged least
    since the others began to wait. Time that somebody did not use is not owed to them: whoever
    waited for nothing begins where the others are.
    """

    def __init__(self, due: MutableMapping[K, float]) -> None:
        """`due` is empty; it holds an entry for each one that has had a turn."""
        self._due = due
        self._now = 0.0

    def choose(self, waiting: Iterable[K]) -> K:
        """Return the one whose turn it is; the first of several. `waiting` is not empty."""
        chosen = min(waiting, key=self._start)
        self._now = self._start(chosen)
        return chosen

    def charge(self, one: K, seconds: float) -> None:
        """Charge somebody with seconds; with less than nothing, to give back."""
        self._due[one] = self._start(one) + seconds

    def _start(self, one: K) -> float:
        return max(self._due.get(one, 0.0), self._now)
