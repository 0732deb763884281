"""The registered models, as far as they are known while the registry is away."""

import asyncio

from control_plane.registry import ModelRegistry
from service_kit.errors import Unavailable
from service_kit.registry import RegisteredModel

# Aliases that the upkeep acts on are read again before it acts.
MAX_AGE_S = 5.0


class Catalog:
    """Reads every registered model; keeps what it read last."""

    def __init__(self, registry: ModelRegistry, max_age_s: float = MAX_AGE_S) -> None:
        self._registry = registry
        self._max_age_s = max_age_s
        self._models: tuple[RegisteredModel, ...] | None = None
        self._read_at = 0.0
        self._notes = 0

    async def models(self) -> tuple[RegisteredModel, ...]:
        """Return the models, a few seconds old at most while the registry answers."""
        now = asyncio.get_running_loop().time()
        if self._models is None or now - self._read_at > self._max_age_s:
            return await self.read()
        return self._models

    async def read(self) -> tuple[RegisteredModel, ...]:
        """Return the models as they are now, or as last known while the registry is away.

        Raises Unavailable when the registry has never answered.
        """
        try:
            while True:
                notes = self._notes
                read = tuple(await self._registry.list_models())
                if notes == self._notes:
                    break
                # What was noted meanwhile may be newer than what was read.
            self._models = read
            self._read_at = asyncio.get_running_loop().time()
        except Unavailable:
            if self._models is None:
                raise
        return self._models

    def note(self, model: RegisteredModel) -> None:
        """Replace what is known of a model by what was just written."""
        self._notes += 1
        if self._models is not None:
            self._models = tuple(
                model if known.name == model.name else known for known in self._models
            )

    @property
    def known(self) -> tuple[RegisteredModel, ...] | None:
        """What was read last; None: nothing yet."""
        return self._models
