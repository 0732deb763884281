"""Moments in a version's life, written once as tags of the version."""

import logging
from datetime import UTC, datetime

from control_plane.models.model_registry import ModelRegistry
from service_kit.errors import NotFound, Unavailable

log = logging.getLogger(__name__)


class Marks:
    """Writes a tag unless it is there; remembers what is."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._there: set[tuple[str, str, str]] = set()

    async def once(self, model: str, version: str, key: str, moment: datetime) -> None:
        """Tag `version` with `moment` (ISO 8601, UTC), unless it has that tag.

        When the registry is away nothing is written; ask again.
        """
        if (model, version, key) in self._there:
            return
        try:
            found = await self._registry.get_version(model, version)
            if key not in found.tags:
                value = moment.astimezone(UTC).isoformat(timespec="milliseconds")
                await self._registry.tag_version(model, version, key, value)
        except (Unavailable, NotFound) as error:
            extra = {"model": model, "version": version, "tag": key, "why": str(error)}
            log.warning("not tagged yet", extra=extra)
            return
        self._there.add((model, version, key))
