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
class RegisteredModel:
    """A registered model with its aliases (alias → version) and tags."""

    name: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model."""

    name: str
    version: str
    run_id: str
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)

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
