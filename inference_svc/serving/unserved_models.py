"""Tells callers why a model is not served here."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence

from inference_svc.versions.cache import ModelSource
from service_kit.errors import FailedPrecondition, MeshError, NotFound, Unavailable
from service_kit.model_registry.records import CHAMPION, SERVING, RegisteredModel

REMEMBERED_S = 2.0
REMEMBERED_NAMES = 256
LOOKUPS_AT_ONCE = 4


class UnservedModels:
    """Asks the registry about models that are not served, and remembers its answers for a while."""

    def __init__(
        self,
        source: ModelSource,
        timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = source
        self._timeout_s = timeout_s
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, RegisteredModel | None]] = OrderedDict()
        self._lookups = asyncio.Semaphore(LOOKUPS_AT_ONCE)

    async def explain(self, name: str, served: Sequence[str]) -> MeshError:
        """Return the error that tells a caller why `name` gets no answer here."""
        try:
            async with asyncio.timeout(self._timeout_s):
                model = await self._find(name)
        except (TimeoutError, Unavailable):
            return Unavailable(
                f"{name} is not served here, and MLflow cannot be asked whether it exists"
            )
        if model is None:
            names = ", ".join(served) or "none"
            return NotFound(f"there is no model {name}; served here: {names}")
        if SERVING in model.aliases:
            version = model.aliases[SERVING]
            return Unavailable(f"version {version} of {name} is not loaded here yet")
        if CHAMPION in model.aliases:
            version = model.aliases[CHAMPION]
            return FailedPrecondition(
                f"version {version} of {name} is promoted but not served yet: reload it"
            )
        return FailedPrecondition(f"no version of {name} is promoted yet: train one first")

    def forget(self, name: str) -> None:
        """Ask the registry again the next time that a caller names this model."""
        self._remembered.pop(name, None)

    async def _find(self, name: str) -> RegisteredModel | None:
        async with self._lookups:
            remembered = self._remembered.get(name)
            if remembered is not None and self._clock() < remembered[0]:
                return remembered[1]
            model = await self._source.find_model(name)
            self._remembered[name] = (self._clock() + REMEMBERED_S, model)
            self._remembered.move_to_end(name)
            if len(self._remembered) > REMEMBERED_NAMES:
                self._remembered.popitem(last=False)
            return model
