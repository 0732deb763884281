"""Moments in a version's life, each written once as a tag of the version."""

import logging
from datetime import UTC, datetime

from control_plane.models.registry_protocol import ModelRegistry
from service_kit.errors import NotFound, Unavailable

log = logging.getLogger(__name__)


class Marks:
    """Writes a tag unless the version has it; remembers which tags are there."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._written: set[tuple[str, str, str]] = set()

    async def once(self, model: str, version: str, key: str, moment: datetime) -> None:
        """Tag `version` with `moment` (ISO 8601, UTC), unless it has that tag.

        While the registry is away this writes nothing and raises nothing; call again later.
        """
        if (model, version, key) in self._written:
            return
        try:
            registered = await self._registry.get_version(model, version)
            if key not in registered.tags:
                value = moment.astimezone(UTC).isoformat(timespec="milliseconds")
                await self._registry.tag_version(model, version, key, value)
        except (Unavailable, NotFound) as error:
            extra = {"model": model, "version": version, "tag": key, "why": str(error)}
            log.warning("not tagged yet", extra=extra)
            return
        self._written.add((model, version, key))
