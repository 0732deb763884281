"""One change at a time for each model."""

import asyncio
from collections import defaultdict


class ModelLocks:
    """A lock a model; who waits gets it in the order of asking."""

    def __init__(self) -> None:
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def of(self, model: str) -> asyncio.Lock:
        """The lock of a model."""
        return self._locks[model]

    def taken(self, model: str) -> bool:
        """Somebody holds it."""
        return model in self._locks and self._locks[model].locked()
