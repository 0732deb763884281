"""One change at a time for each model."""

import asyncio
from weakref import WeakValueDictionary


class ModelLocks:
    """A lock for each model; waiting callers get it in the order in which they asked.

    A lock goes when nobody holds it or waits for it, since callers may name any model.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, model: str) -> asyncio.Lock:
        """Return the lock of a model."""
        lock = self._locks.get(model)
        if lock is None:
            lock = self._locks[model] = asyncio.Lock()
        return lock

    def taken(self, model: str) -> bool:
        """Whether a change of the model holds its lock."""
        lock = self._locks.get(model)
        return lock is not None and lock.locked()
