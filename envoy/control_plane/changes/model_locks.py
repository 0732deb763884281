"""One change at a time for each model."""

import asyncio
from collections import defaultdict


class ModelLocks:
    """A lock for each model; waiting callers get it in the order in which they asked."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, model: str) -> asyncio.Lock:
        """Return the lock of a model."""
        return self._locks[model]

    def taken(self, model: str) -> bool:
        """Whether a change of the model holds its lock."""
        return model in self._locks and self._locks[model].locked()
