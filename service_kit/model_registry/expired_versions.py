"""Which versions of a model are kept: those with an alias, and the newest."""

from collections.abc import Collection, Sequence

from service_kit.model_registry.records import TAG_JOB_ID, ModelVersion, RegisteredModel
from service_kit.model_registry.registry import Registry

KEEP_VERSIONS = 10


def expired(
    versions: Sequence[ModelVersion], aliased: Collection[str], keep: int
) -> list[ModelVersion]:
    """Return the versions that nothing keeps, oldest first. The `keep` newest stay in any case.

    An alias (Champion, Serving, Previous, Challenger) keeps a version whatever its age. Versions
    that no training of the mesh registered are never returned, and do not count as newest.
    """
    ours = [version for version in versions if TAG_JOB_ID in version.tags]
    by_age = sorted(ours, key=lambda version: int(version.version))
    return [version for version in by_age[:-keep] if version.version not in aliased]


async def expired_versions(
    registry: Registry, model: RegisteredModel, keep: int
) -> list[ModelVersion]:
    """Return the versions of a model that nothing keeps, oldest first. Raises Unavailable."""
    versions = await registry.list_versions(model.name)
    return expired(versions, set(model.aliases.values()), keep)
