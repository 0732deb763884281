"""The part of the model registry that the control plane uses: the seam to MLflow."""

from typing import Protocol

from service_kit.model_registry.promotion import Promoted
from service_kit.model_registry.records import ModelVersion, RegisteredModel


class ModelRegistry(Protocol):
    """service_kit.model_registry.registry.Registry, or a twin.

    Every call raises Unavailable when MLflow is away.
    """

    async def find_model(self, name: str) -> RegisteredModel | None:
        """Return the registered model, or None."""

    async def list_models(self) -> list[RegisteredModel]:
        """Return every registered model with its aliases."""

    async def get_version(self, name: str, version: str) -> ModelVersion:
        """Return one version. Raises NotFound."""

    async def set_alias(self, name: str, alias: str, version: str) -> None:
        """Point an alias to a version."""

    async def tag_version(self, name: str, version: str, key: str, value: str) -> None:
        """Set a tag of a version."""

    async def tag_model(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""


class Demotions(Protocol):
    """service_kit.model_registry.promotion.Promotions, or a twin."""

    async def demote(self, model: str, expected_champion: str, previous: str) -> Promoted:
        """Make `previous` the Champion again if `expected_champion` still is; idempotent."""

    async def confirm(self, registered: RegisteredModel) -> None:
        """Raise FailedPrecondition if another version than the Champion was promoted last."""
