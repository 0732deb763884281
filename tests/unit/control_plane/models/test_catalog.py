"""The catalog of registered models."""

from control_plane.models.catalog import Catalog
from service_kit.model_registry.records import RegisteredModel
from tests.unit.control_plane.twins import TwinRegistry


class NotedMeanwhile(TwinRegistry):
    """A registry whose first answer is overtaken by a change."""

    catalog: Catalog

    async def list_models(self) -> list[RegisteredModel]:
        found = await super().list_models()
        if not self.model_tags:
            self.model_tags = {"split": "new"}
            self.catalog.note(RegisteredModel("reviews", {}, self.model_tags))
        return found


async def test_what_is_noted_during_a_read_is_not_lost() -> None:
    registry = NotedMeanwhile()
    registry.catalog = Catalog(registry)
    [model] = await registry.catalog.models()
    assert model.tags == {"split": "new"}
