"""The registry, in which only what the control plane has signed says what is served."""

import logging

import httpx

from control_plane.models.signed_records import SignedRecords
from control_plane.models.sourced_registry import SourcedRegistry
from service_kit.errors import NotFound, Unavailable
from service_kit.model_registry.records import SERVING, RegisteredModel, registered_model
from service_kit.signing.records import TAG_SERVING, serving_value

log = logging.getLogger(__name__)


class SignedRegistry(SourcedRegistry):
    """Signs what it writes about what is served, and reads what was signed.

    The commit record of a change is the signed tag TAG_SERVING; the alias `Serving` follows it.
    Without `records` the alias is the record and nothing is signed.
    """

    def __init__(
        self, url: str, records: SignedRecords | None = None, auth: httpx.Auth | None = None
    ) -> None:
        super().__init__(url, auth)
        self.records = records
        self._created: dict[str, int] = {}

    async def find_model(self, name: str) -> RegisteredModel | None:
        model = await self.find_unsigned(name)
        return self.records.recorded(model) if model and self.records else model

    async def list_models(self) -> list[RegisteredModel]:
        models = await self.list_unsigned()
        if self.records is None:
            return models
        self.records.forget_all_but(models)
        return list(map(self.records.recorded, models))

    async def find_unsigned(self, name: str) -> RegisteredModel | None:
        """Return a model as MLflow has it."""
        model = await super().find_model(name)
        if model is not None:
            self._created[name] = model.created_at
        return model

    async def list_unsigned(self) -> list[RegisteredModel]:
        """Return every model as MLflow has it."""
        models = await super().list_models()
        self._created = {model.name: model.created_at for model in models}
        return models

    async def tag_model(self, name: str, key: str, value: str) -> None:
        if self.records is None or not self.records.signs(key):
            await super().tag_model(name, key, value)
            return
        model = await self._identity(name)
        text = self.records.text(model, key, value)
        await super().tag_model(name, key, text)
        self.records.written(model, key, text)

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        if self.records is None or alias != SERVING:
            await super().set_alias(name, alias, version)
            return
        ref = (await self.get_version(name, version)).ref
        await SignedRegistry.tag_model(self, name, TAG_SERVING, serving_value(ref))
        try:
            await super().set_alias(name, alias, version)
        except Unavailable as error:
            # The change is recorded; the alias only shows it and is set later.
            log.warning("the alias is not set yet", extra={"model": name, "why": str(error)})

    async def put_back(self, name: str) -> None:
        """Undo what somebody else has changed in MLflow about what is served of a model.

        The caller holds the model's lock. Raises Unavailable.
        """
        model = await self.find_unsigned(name)
        if model is None or self.records is None:
            return
        texts, serving = self.records.changed(model)
        for tag, text in texts.items():
            await super().tag_model(name, tag, text)
            log.warning("changed by somebody else, put back", extra={"model": name, "tag": tag})
        if serving:
            try:
                await super().set_alias(name, SERVING, serving)
            except NotFound:
                self.records.version_gone(model, serving)
                return
            extra = {"model": name, "alias": SERVING, "version": serving}
            log.warning("changed by somebody else, put back", extra=extra)

    async def _identity(self, name: str) -> RegisteredModel:
        """Return a model with its name and the time of its creation alone. Raises NotFound."""
        if name not in self._created:
            return await registered_model(_Finder(self), name)
        return RegisteredModel(name, created_at=self._created[name])


class _Finder:
    def __init__(self, registry: SignedRegistry) -> None:
        self._registry = registry

    async def find_model(self, name: str) -> RegisteredModel | None:
        return await self._registry.find_unsigned(name)
