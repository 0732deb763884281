"""Names and numbers of the scripts that make and change our own tables."""

import re
from pathlib import Path

import pytest

from service_kit.model_registry import promotion
from service_kit.schema_versions import BadMigration, Component
from tests.whole_mesh.running_mesh import ROOT
from training_svc.jobs import job_store
from trigger_svc import service as trigger

CODE = ("envoy/control_plane", "service_kit", "training_svc", "trigger_svc", "inference_svc")
SCRIPTS = (*trigger.SCHEMA, job_store.SCHEMA, promotion.SCHEMA)


def migration(folder: Path, name: str, text: str) -> None:
    (folder / "things").mkdir(exist_ok=True)
    (folder / "things" / name).write_text(text)


@pytest.fixture
def component(tmp_path: Path) -> Component:
    script = tmp_path / "things.sql"
    script.write_text("CREATE TABLE IF NOT EXISTS mesh.things (id integer);")
    return Component(script)


def test_a_component_is_named_by_its_package_and_script() -> None:
    assert Component(job_store.SCHEMA).name == "training_svc.jobs.training_jobs"
    assert Component(promotion.SCHEMA).name == "service_kit.model_registry.promotions"
    names = [Component(script).name for script in trigger.SCHEMA]
    assert names == ["trigger_svc.database.schema", "trigger_svc.database.outbox_triggers"]


def test_migrations_are_numbered_from_two(component: Component) -> None:
    migration(component.script.parent, "0002_names.sql", "-- compatible_from: 1\nSELECT 2;")
    migration(component.script.parent, "0003_keys.sql", "-- compatible_from: 3\nSELECT 3;")
    assert [(v.number, v.compatible_from) for v in component.versions] == [(1, 1), (2, 1), (3, 3)]


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("0003_names.sql", "-- compatible_from: 1\n", "has to begin with 0002_"),
        ("names.sql", "-- compatible_from: 1\n", "has to begin with 0002_"),
        ("0002_names.sql", "SELECT 2;", "its first line has to be `-- compatible_from: N`"),
        ("0002_names.sql", "-- compatible_from: 3\n", "a version from 1 to 2"),
        ("0002_names.sql", "-- compatible_from: 0\n", "a version from 1 to 2"),
    ],
)
def test_a_wrong_migration_is_refused(
    component: Component, name: str, text: str, complaint: str
) -> None:
    migration(component.script.parent, name, text)
    with pytest.raises(BadMigration, match=re.escape(complaint)):
        _ = component.versions


def test_two_migrations_of_one_number_are_refused(component: Component) -> None:
    migration(component.script.parent, "0002_keys.sql", "-- compatible_from: 1\n")
    migration(component.script.parent, "0002_names.sql", "-- compatible_from: 1\n")
    with pytest.raises(BadMigration, match="has to begin with 0003_"):
        _ = component.versions


def test_every_script_of_the_mesh_has_sound_migrations() -> None:
    """Also those of components that are not named above."""
    found = 0
    for script in (path for folder in CODE for path in (ROOT / folder).rglob("sql/*.sql")):
        assert Component(script).versions[0].number == 1
        found += 1
    assert found >= len(SCRIPTS)
