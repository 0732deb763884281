"""What a promotion notes for the control plane, with a real PostgreSQL and MLflow."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from service_kit.errors import Aborted
from service_kit.model_registry.promoted import (
    TAG_PROMOTED,
    promotion_of_champion,
    promotions_of,
)
from service_kit.model_registry.promotion import SCHEMA, Promotions
from service_kit.model_registry.records import CHAMPION, RegisteredModel
from service_kit.model_registry.registry import Registry
from tests.real_parts.mlflow_server import create_versions
from tests.real_parts.postgres import execute

# The table of the release before models were told apart by the time of their creation.
OLD_TABLE = """
CREATE SCHEMA mesh;
CREATE TABLE mesh.promotions (
    model       text PRIMARY KEY,
    epoch       integer NOT NULL DEFAULT 0,
    champion    text NOT NULL DEFAULT '',
    previous    text NOT NULL DEFAULT '',
    changed_at  timestamptz NOT NULL DEFAULT now()
)
"""


@dataclass
class Setup:
    """A model with three versions and no alias."""

    name: str
    registry: Registry
    promotions: Promotions
    mlflow_url: str

    async def model(self) -> RegisteredModel:
        """The model as it is now."""
        found = await self.registry.find_model(self.name)
        assert found
        return found


@pytest.fixture
async def setup(postgres_url: str, mlflow_url: str) -> AsyncIterator[Setup]:
    execute(postgres_url, OLD_TABLE)
    for _ in range(2):
        execute(postgres_url, SCHEMA.read_text())
    registry = Registry(mlflow_url)
    name = f"m{uuid.uuid4().hex[:12]}"
    await registry.ensure_model(name)
    await create_versions(mlflow_url, name, 3)
    yield Setup(name, registry, Promotions(postgres_url, registry), mlflow_url)
    await registry.close()


async def test_the_promotion_of_the_champion_and_the_one_before_are_noted(setup: Setup) -> None:
    await setup.promotions.promote(setup.name, "1", "", serve=True)
    await setup.promotions.promote(setup.name, "2", "1", serve=False)
    noted = promotions_of(await setup.model())
    assert [(item.version, item.serve) for item in noted] == [("2", False), ("1", True)]
    await setup.promotions.demote(setup.name, "2", "1")
    made = promotion_of_champion(await setup.model())
    assert made
    assert made.version == "1"


async def test_the_same_promotion_again_is_the_same_promotion(setup: Setup) -> None:
    await setup.promotions.promote(setup.name, "1", "", serve=True)
    before = (await setup.model()).tags[TAG_PROMOTED]
    await setup.promotions.promote(setup.name, "1", "", serve=True)
    assert (await setup.model()).tags[TAG_PROMOTED] == before


async def test_a_note_that_a_late_writer_has_overwritten_is_written_again(setup: Setup) -> None:
    await setup.promotions.promote(setup.name, "1", "", serve=True)
    late = (await setup.model()).tags[TAG_PROMOTED].replace('"1"', '"3"')
    await setup.promotions.promote(setup.name, "2", "1", serve=True)
    await setup.registry.tag_model(setup.name, TAG_PROMOTED, late)
    with pytest.raises(Aborted):
        await setup.promotions.promote(setup.name, "3", "1", serve=True)
    made = promotion_of_champion(await setup.model())
    assert made
    assert (made.version, made.serve) == ("2", True)


async def test_the_record_of_a_model_that_was_deleted_moves_no_alias_of_the_next_one(
    setup: Setup,
) -> None:
    await setup.promotions.promote(setup.name, "1", "")
    await setup.promotions.promote(setup.name, "3", "1")
    await setup.registry.delete_model(setup.name)
    await setup.registry.ensure_model(setup.name)
    await create_versions(setup.mlflow_url, setup.name, 1)
    # The alias was written and the process died, so that the row still has the old model's.
    await setup.registry.set_alias(setup.name, CHAMPION, "1")
    await setup.promotions.promote(setup.name, "1", "")
    assert (await setup.model()).aliases == {CHAMPION: "1"}
