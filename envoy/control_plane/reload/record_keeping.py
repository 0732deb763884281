"""Signs once what a release before signatures has recorded, and puts back what others change."""

import asyncio
import logging
from collections.abc import Callable

from control_plane.changes.model_locks import ModelLocks
from control_plane.changes.record_store import RecordStore
from control_plane.models.signed_records import KnownRecord, SignedRecords
from control_plane.models.signed_registry import SignedRegistry
from service_kit.database import until_available
from service_kit.errors import MeshError, NotFound, NotLeading, Unavailable
from service_kit.model_registry.records import SERVING, RegisteredModel
from service_kit.signing.first_use import FirstUse

log = logging.getLogger(__name__)

INTERVAL_S = 2.0


class RecordKeeping:
    """Runs beside the upkeep; only the control plane that leads writes."""

    def __init__(
        self,
        registry: SignedRegistry,
        records: SignedRecords,
        first_use: FirstUse,
        store: RecordStore,
        locks: ModelLocks,
        leads: Callable[[], bool],
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._registry = registry
        self._records = records
        self._first_use = first_use
        self._store = store
        self._kept: list[KnownRecord] = []
        self._locks = locks
        self._leads = leads
        self._interval_s = interval_s

    async def run(self) -> None:
        """Look until cancelled."""
        await until_available(self.begin, "whether records are signed", self._interval_s)
        while True:
            await asyncio.sleep(self._interval_s)
            if self._leads():
                await self._put_back()
                await self._keep()

    async def recall(self) -> None:
        """Remember what was recorded before the start. Raises Unavailable."""
        for known in await self._store.load():
            self._records.recall(known)

    async def begin(self) -> None:
        """Trust what is recorded in MLflow if no key has ever signed here; trust it never again.

        Raises Unavailable while MLflow or PostgreSQL is away, and on a control plane that does not
        lead until the one that does has signed.
        """
        if not await self._first_use.is_over():
            if not self._leads():
                raise Unavailable("the control plane that leads has not signed what is recorded")
            try:
                await self._trust_once()
            except NotLeading as error:
                raise Unavailable("another control plane leads by now") from error
        await self.recall()
        self._records.strict = True

    async def _trust_once(self) -> None:
        models = await self._registry.list_unsigned()
        # Signed records in MLflow and none in the database: the database was lost, not the key.
        if not any(map(self._records.is_recorded, models)):
            for model in models:
                try:
                    await self._sign(model)
                except NotFound as error:
                    extra = {"model": model.name, "why": str(error)}
                    log.warning("deleted meanwhile, not signed", extra=extra)
        await self._first_use.note()

    async def _sign(self, model: RegisteredModel) -> None:
        async with self._locks.of(model.name):
            for tag, value in model.tags.items():
                if self._records.signs(tag):
                    await self._registry.tag_model(model.name, tag, value)
            serving = model.aliases.get(SERVING, "")
            if serving:
                await self._registry.set_alias(model.name, SERVING, serving)
                extra = {"model": model.name, "version": serving}
                log.warning("what was served before signatures is signed now", extra=extra)

    async def _keep(self) -> None:
        known = self._records.known()
        if known == self._kept:
            return
        try:
            await self._store.keep(known)
            self._kept = known
        except Unavailable as error:
            log.info("the signed records are kept later", extra={"why": str(error)})

    async def _put_back(self) -> None:
        try:
            for model in await self._registry.list_unsigned():
                if self._records.changed(model) == ({}, "") or self._locks.taken(model.name):
                    continue
                async with self._locks.of(model.name):
                    await self._registry.put_back(model.name)
        except MeshError as error:
            log.info("not looked at what others changed", extra={"why": str(error)})
        except Exception:
            log.exception("looking at what others changed failed; it goes on")
