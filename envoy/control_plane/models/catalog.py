"""A copy of the registered models, which stays usable while the registry is away."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from control_plane.models.registry_protocol import ModelRegistry
from service_kit.errors import Unavailable
from service_kit.model_registry.records import RegisteredModel

# Seconds. The upkeep may act on aliases of this age: a repair reads them again before it acts.
MAX_AGE_S = 5.0


class Catalog:
    """Reads every registered model, and keeps the latest copy."""

    def __init__(self, registry: ModelRegistry, max_age_s: float = MAX_AGE_S) -> None:
        self._registry = registry
        self._max_age_s = max_age_s
        self._models: dict[str, RegisteredModel] | None = None
        self._read_at = 0.0
        self._notes = 0
        self._being_written: dict[str, RegisteredModel] = {}

    async def models(self) -> tuple[RegisteredModel, ...]:
        """Return the models, at most `max_age_s` old while the registry answers."""
        now = asyncio.get_running_loop().time()
        if self._models is None or now - self._read_at > self._max_age_s:
            return await self.read()
        return tuple(self._models.values())

    async def read(self) -> tuple[RegisteredModel, ...]:
        """Return the models as they are now, or as last read while the registry is away.

        Raises Unavailable when the registry has never answered.
        """
        try:
            while True:
                notes = self._notes
                read = {model.name: model for model in await self._registry.list_models()}
                if notes == self._notes:
                    break
                # A model that was noted meanwhile may be newer than its copy in this read.
            self._models = read | self._being_written
            self._read_at = asyncio.get_running_loop().time()
        except Unavailable:
            if self._models is None:
                raise
        return tuple(self._models.values())

    def note(self, model: RegisteredModel) -> None:
        """Replace the copy of a model by the state that was just written to the registry."""
        self._notes += 1
        if self._models is not None:
            self._models = self._models | {model.name: model}

    @contextmanager
    def writing(self, before: RegisteredModel, after: RegisteredModel) -> Iterator[None]:
        """Show `after` while the caller writes it to the registry, and `before` if that fails.

        The caller holds the model's lock, so there is one change of a model at a time.
        """
        self._being_written[after.name] = after
        self.note(after)
        try:
            yield
        except BaseException:
            self.note(before)
            # The write may have arrived all the same, so the next look reads the registry.
            self._read_at = 0.0
            raise
        finally:
            del self._being_written[after.name]
            # A read that is under way may have seen either state, so it reads again.
            self._notes += 1

    def find(self, name: str) -> RegisteredModel | None:
        """Return the copy of a model; None when it was not registered at the latest read."""
        return (self._models or {}).get(name)

    @property
    def latest(self) -> tuple[RegisteredModel, ...] | None:
        """The models as last read; None: the registry has not answered yet."""
        return None if self._models is None else tuple(self._models.values())
