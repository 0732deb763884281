"""Moments in a version's life, each written once as a tag of the version."""

import logging
from datetime import UTC, datetime

from control_plane.models.registry_protocol import ModelRegistry
from service_kit.errors import NotFound, Unavailable
from service_kit.model_registry.records import VersionRef

log = logging.getLogger(__name__)


class Marks:
    """Writes a tag unless the version has it; remembers which tags are there."""

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry
        self._written: set[tuple[str, VersionRef, str]] = set()

    async def once(self, model: str, ref: VersionRef, key: str, moment: datetime) -> None:
        """Tag the version `ref` with `moment` (ISO 8601, UTC), unless it has that tag.

        While the registry is away this writes nothing and raises nothing; call again later. It
        writes nothing either when the number belongs to another version by now.
        """
        if (model, ref, key) in self._written:
            return
        try:
            registered = await self._registry.get_version(model, ref.version)
            if not registered.ref.same(ref):
                return
            if key not in registered.tags:
                value = moment.astimezone(UTC).isoformat(timespec="milliseconds")
                await self._registry.tag_version(model, ref.version, key, value)
        except (Unavailable, NotFound) as error:
            extra = {"model": model, "version": ref.version, "tag": key, "why": str(error)}
            log.warning("not tagged yet", extra=extra)
            return
        self._written.add((model, ref, key))
