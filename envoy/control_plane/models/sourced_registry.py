"""The registry, which also says where the files of the versions lie that have an alias."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import httpx

from service_kit.errors import NotFound
from service_kit.model_registry.records import RegisteredModel
from service_kit.model_registry.registry import Registry

# Versions that are looked up at once.
LOOKUPS = 8

# A model by its name and the time of its creation, and a version of it.
_Key = tuple[str, int, str]


class SourcedRegistry(Registry):
    """Fills RegisteredModel.sources.

    MLflow never changes the source of a version, and never gives a number twice within a model, so
    each version is looked up once. A version that MLflow does not have has no source.
    """

    def __init__(self, url: str, auth: httpx.Auth | None = None) -> None:
        super().__init__(url, auth=auth)
        self._known: dict[_Key, str] = {}
        self._lookups = asyncio.Semaphore(LOOKUPS)

    async def find_model(self, name: str) -> RegisteredModel | None:
        model = await super().find_model(name)
        return model and await self._sourced(model)

    async def list_models(self) -> list[RegisteredModel]:
        models = await super().list_models()
        sourced = await asyncio.gather(*map(self._sourced, models))
        in_use = {key for model in models for key in _keys(model)}
        self._known = {key: source for key, source in self._known.items() if key in in_use}
        return sourced

    async def _sourced(self, model: RegisteredModel) -> RegisteredModel:
        keys = sorted(set(_keys(model)))
        sources = await asyncio.gather(*map(self._source, keys))
        known = {key: source for key, source in zip(keys, sources, strict=True) if source}
        self._known |= known
        return replace(model, sources={key[2]: source for key, source in known.items()})

    async def _source(self, key: _Key) -> str:
        if key in self._known:
            return self._known[key]
        async with self._lookups:
            try:
                return (await self.get_version(key[0], key[2])).source
            except NotFound:
                return ""


def _keys(model: RegisteredModel) -> Iterable[_Key]:
    return ((model.name, model.created_at, version) for version in model.aliases.values())
