"""What a replica keeps on its disk for its next start. Lives on the event loop."""

import asyncio
import logging
from collections.abc import Collection

from inference_svc.serving.slots import CHAMPION, Slots
from inference_svc.serving.upcoming_versions import UpcomingVersions
from inference_svc.versions.cache import ModelCache
from inference_svc.versions.remembered_versions import RememberedVersions

log = logging.getLogger(__name__)


class KeptFiles:
    """Keeps the files of versions in use and of a few others, and the list of those served."""

    def __init__(
        self,
        slots: Slots,
        upcoming: UpcomingVersions,
        cache: ModelCache,
        remembered: RememberedVersions,
    ) -> None:
        self._slots = slots
        self._upcoming = upcoming
        self._cache = cache
        self._remembered = remembered
        self._one_at_a_time = asyncio.Lock()

    async def settle(self, model: str) -> None:
        """Remember which versions are served, and remove old versions of `model` from the cache.

        Of a model that is neither served nor prepared, nothing is kept.
        """
        async with self._one_at_a_time:
            serving = {
                served.slot.model: served.id
                for served in self._slots.all_served()
                if served.slot.role == CHAMPION
            }
            in_use = {served.id for served in self._slots.of_model(model)}
            in_use.update(self._upcoming.versions(model))
            try:
                await asyncio.to_thread(self._remembered.write, serving)
                if in_use:
                    await asyncio.to_thread(self._cache.prune, model, in_use)
                else:
                    await asyncio.to_thread(self._cache.forget, model)
            except OSError as error:
                # The swap is done; only a start without MLflow would not know of it.
                log.error("cannot write to the state folder", extra={"why": str(error)})

    async def forget_all_but(self, registered: Collection[str]) -> None:
        """Keep nothing of models that the registry does not have: they were removed meanwhile."""
        for model in await asyncio.to_thread(self._cache.models):
            if model not in registered and not self._slots.of_model(model):
                await self.settle(model)
