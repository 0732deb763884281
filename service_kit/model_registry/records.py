"""The records of the registry: models with their aliases, versions, and the tags that we set."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from service_kit.errors import NotFound

CHAMPION = "Champion"
CHALLENGER = "Challenger"
PREVIOUS = "Previous"
SERVING = "Serving"

TAG_BATCH_ID = "mesh.batch_id"
TAG_JOB_ID = "mesh.job_id"
TAG_RELOADED_AT = "mesh.reloaded_at"
TAG_FIRST_ANSWER_AT = "mesh.first_answer_at"
# The result of the comparison with the Champion on held-out rows, from before the registration.
TAG_COMPARED_WITH = "mesh.compared_with"
TAG_P_VALUE = "mesh.p_value"
TAG_P_WORSE = "mesh.p_worse"
TAG_DISAGREEMENT = "mesh.disagreement"
TAG_HELD_OUT_ROWS = "mesh.held_out_rows"


@dataclass(frozen=True)
class VersionRef:
    """One version. Its source tells it apart from a version of the same number of an earlier model
    of the same name: a model that is deleted and made anew starts at version 1 again."""

    version: str = ""
    """Empty: none."""

    source: str = ""
    """Where its files lie, as the registry says it; empty: unknown."""

    def __bool__(self) -> bool:
        return bool(self.version)

    def same(self, other: "VersionRef") -> bool:
        """Whether both are one version, as far as the sources are known."""
        if self.version != other.version:
            return False
        return not self.source or not other.source or self.source == other.source


@dataclass(frozen=True)
class RegisteredModel:
    """A registered model with its aliases (alias → version) and tags."""

    name: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    """Where the files of versions lie (version → source); read by the control plane only."""

    created_at: int = 0
    """When it was created, milliseconds since 1970: another time is another model of this name."""

    def ref(self, version: str) -> VersionRef:
        """Return a version of this model with its source, if that is known."""
        return VersionRef(version, self.sources.get(version, ""))

    def aliased(self, alias: str) -> VersionRef:
        """Return the version that an alias names; none: an empty one."""
        return self.ref(self.aliases.get(alias, ""))


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def ref(self) -> VersionRef:
        """The number of the version with its source."""
        return VersionRef(self.version, self.source)

    @property
    def batch_id(self) -> str:
        """Batch whose rows started the training of this version; empty when unknown."""
        return self.tags.get(TAG_BATCH_ID, "")


class ModelFinder(Protocol):
    """The part of the registry that `registered_model` uses."""

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None."""


async def registered_model(finder: ModelFinder, name: str) -> RegisteredModel:
    """Return the registered model. Raises NotFound."""
    found = await finder.find_model(name)
    if found is None:
        raise NotFound(f"no model {name!r} is registered")
    return found


def _pairs(items: list[dict[str, str]] | None, key: str, value: str) -> dict[str, str]:
    return {item[key]: item.get(value, "") for item in items or []}


def model_of(data: Mapping[str, Any]) -> RegisteredModel:
    """Read a registered model from MLflow's JSON."""
    return RegisteredModel(
        name=data["name"],
        aliases=_pairs(data.get("aliases"), "alias", "version"),
        tags=_pairs(data.get("tags"), "key", "value"),
        created_at=int(data.get("creation_timestamp", 0)),
    )


def version_of(data: Mapping[str, Any]) -> ModelVersion:
    """Read a version from MLflow's JSON."""
    return ModelVersion(
        name=data["name"],
        version=str(data["version"]),
        run_id=data.get("run_id", ""),
        source=data.get("source", ""),
        tags=_pairs(data.get("tags"), "key", "value"),
    )
