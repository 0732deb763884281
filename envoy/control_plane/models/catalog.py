"""The registered models, as far as they are known while the registry is away."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from control_plane.models.model_registry import ModelRegistry
from service_kit.errors import Unavailable
from service_kit.model_registry.records import RegisteredModel

# Aliases that the upkeep acts on are read again before it acts.
MAX_AGE_S = 5.0


class Catalog:
    """Reads every registered model; keeps what it read last."""

    def __init__(self, registry: ModelRegistry, max_age_s: float = MAX_AGE_S) -> None:
        self._registry = registry
        self._max_age_s = max_age_s
        self._models: dict[str, RegisteredModel] | None = None
        self._read_at = 0.0
        self._notes = 0
        self._being_written: dict[str, RegisteredModel] = {}

    async def models(self) -> tuple[RegisteredModel, ...]:
        """Return the models, a few seconds old at most while the registry answers."""
        now = asyncio.get_running_loop().time()
        if self._models is None or now - self._read_at > self._max_age_s:
            return await self.read()
        return tuple(self._models.values())

    async def read(self) -> tuple[RegisteredModel, ...]:
        """Return the models as they are now, or as last known while the registry is away.

        Raises Unavailable when the registry has never answered.
        """
        try:
            while True:
                notes = self._notes
                read = {model.name: model for model in await self._registry.list_models()}
                if notes == self._notes:
                    break
                # What was noted meanwhile may be newer than what was read.
            self._models = read | self._being_written
            self._read_at = asyncio.get_running_loop().time()
        except Unavailable:
            if self._models is None:
                raise
        return tuple(self._models.values())

    def note(self, model: RegisteredModel) -> None:
        """Replace what is known of a model by what was just written."""
        self._notes += 1
        if self._models is not None:
            self._models = self._models | {model.name: model}

    @contextmanager
    def writing(self, before: RegisteredModel, after: RegisteredModel) -> Iterator[None]:
        """Take `after` for what is known while it is being written; `before` again if that fails.

        One change of a model at a time: hold its lock.
        """
        self._being_written[after.name] = after
        self.note(after)
        try:
            yield
        except BaseException:
            self.note(before)
            # Nor is it known that nothing was written.
            self._read_at = 0.0
            raise
        finally:
            del self._being_written[after.name]
            # A read that is under way may have seen either.
            self._notes += 1

    def find(self, name: str) -> RegisteredModel | None:
        """A model as it is known; None: it is not."""
        return (self._models or {}).get(name)

    @property
    def known(self) -> tuple[RegisteredModel, ...] | None:
        """What was read last; None: nothing yet."""
        return None if self._models is None else tuple(self._models.values())
