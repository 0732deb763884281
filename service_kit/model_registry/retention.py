"""Which versions of a model are kept: those with an alias, and the newest."""

from collections.abc import Collection, Sequence

from service_kit.model_registry.records import TAG_JOB_ID, ModelVersion, RegisteredModel
from service_kit.model_registry.registry import Registry

KEEP_VERSIONS = 10


def expired(
    versions: Sequence[ModelVersion], aliased: Collection[str], keep: int
) -> list[ModelVersion]:
    """Return what nothing keeps, oldest first. `keep`: how many of the newest stay in any case.

    An alias keeps a version whatever its age: Champion, Serving, Previous, Challenger. What no
    training of ours registered is not ours to delete.
    """
    ours = [found for found in versions if TAG_JOB_ID in found.tags]
    by_age = sorted(ours, key=lambda found: int(found.version))
    return [found for found in by_age[:-keep] if found.version not in aliased]


async def expired_versions(
    registry: Registry, model: RegisteredModel, keep: int
) -> list[ModelVersion]:
    """Return the versions of a model that nothing keeps, oldest first. Raises Unavailable."""
    versions = await registry.list_versions(model.name)
    return expired(versions, set(model.aliases.values()), keep)
