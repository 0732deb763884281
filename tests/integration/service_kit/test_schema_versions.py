"""Versions of our own tables on a real PostgreSQL: upgrades, older code, broken migrations."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from service_kit.database import Database, apply_schema
from service_kit.schema_versions import Component, SchemaTooNew
from tests.real_parts.postgres import execute
from training_svc.jobs import job_store

BASE = """
CREATE TABLE IF NOT EXISTS mesh.things (id integer);
CREATE INDEX IF NOT EXISTS things_by_id ON mesh.things (id);
"""
ADD = "-- compatible_from: 1\nALTER TABLE mesh.things ADD COLUMN name text;\n"
RENAME = "-- compatible_from: 3\nALTER TABLE mesh.things RENAME COLUMN name TO title;\n"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    made = Database(postgres_url, "test", threads=2)
    yield made
    await made.close()


def release(root: Path, *migrations: str) -> Path:
    """The script of a release that knows these migrations."""
    folder = root / str(len(migrations))
    (folder / "things").mkdir(parents=True)
    (folder / "things.sql").write_text(BASE)
    for number, text in enumerate(migrations, 2):
        (folder / "things" / f"{number:04}_change.sql").write_text(text)
    return folder / "things.sql"


async def rows(database: Database, sql: str) -> list[Any]:
    def work(cursor: Any) -> list[Any]:
        cursor.execute(sql)
        return list(cursor.fetchall())

    return await database.run(work)


async def versions(database: Database) -> list[tuple[int, int]]:
    sql = "SELECT version, compatible_from FROM mesh.schema_versions WHERE component = 'things'"
    return await rows(database, f"{sql} ORDER BY version")


async def columns(database: Database) -> set[str]:
    sql = "SELECT attname FROM pg_attribute WHERE attrelid = 'mesh.things'::regclass AND attnum > 0"
    return {name for (name,) in await rows(database, sql)}


async def test_a_database_is_brought_up_once(database: Database, tmp_path: Path) -> None:
    newest = release(tmp_path, ADD, RENAME)
    await apply_schema(database, "things", newest)
    await apply_schema(database, "things", newest)
    assert await columns(database) == {"id", "title"}
    assert await versions(database) == [(1, 1), (2, 1), (3, 3)]


async def test_a_database_without_versions_is_brought_up_and_keeps_its_rows(
    database: Database, postgres_url: str, tmp_path: Path
) -> None:
    execute(postgres_url, "CREATE SCHEMA mesh")
    execute(postgres_url, "CREATE TABLE mesh.things (id integer)")
    execute(postgres_url, "INSERT INTO mesh.things VALUES (7)")
    await apply_schema(database, "things", release(tmp_path, ADD))
    assert await rows(database, "SELECT id, name FROM mesh.things") == [(7, None)]
    assert await versions(database) == [(1, 1), (2, 1)]


async def test_what_was_dropped_comes_back_while_the_version_is_1(
    database: Database, postgres_url: str, tmp_path: Path
) -> None:
    script = release(tmp_path)
    await apply_schema(database, "things", script)
    execute(postgres_url, "DROP INDEX mesh.things_by_id")
    await apply_schema(database, "things", script)
    assert await rows(database, "SELECT to_regclass('mesh.things_by_id') IS NULL") == [(False,)]


async def test_older_code_starts_beside_newer_tables_that_it_can_work_with(
    database: Database, postgres_url: str, tmp_path: Path
) -> None:
    await apply_schema(database, "things", release(tmp_path, ADD))
    execute(postgres_url, "DROP INDEX mesh.things_by_id")
    await apply_schema(database, "things", release(tmp_path))
    # It changes nothing of the newer tables.
    assert await rows(database, "SELECT to_regclass('mesh.things_by_id') IS NULL") == [(True,)]
    assert await versions(database) == [(1, 1), (2, 1)]


async def test_older_code_refuses_tables_that_it_cannot_work_with(
    database: Database, tmp_path: Path
) -> None:
    await apply_schema(database, "things", release(tmp_path, ADD, RENAME))
    with pytest.raises(SchemaTooNew) as refused:
        await apply_schema(database, "things", release(tmp_path, ADD))
    assert "things have version 3, made by a later release" in str(refused.value)
    assert "need code that knows version 3 or later, and this release knows version 2" in str(
        refused.value
    )
    assert await columns(database) == {"id", "title"}


async def test_a_change_stays_incompatible_after_a_compatible_one(
    database: Database, tmp_path: Path
) -> None:
    await apply_schema(database, "things", release(tmp_path, ADD, RENAME, ADD))
    with pytest.raises(SchemaTooNew):
        await apply_schema(database, "things", release(tmp_path, ADD))


async def test_a_broken_migration_changes_nothing(database: Database, tmp_path: Path) -> None:
    await apply_schema(database, "things", release(tmp_path))
    broken = "-- compatible_from: 1\nALTER TABLE mesh.things ADD COLUMN size oops;\n"
    with pytest.raises(psycopg2.errors.UndefinedObject):
        await apply_schema(database, "things", release(tmp_path, ADD, broken))
    assert await columns(database) == {"id"}
    assert await versions(database) == [(1, 1)]


async def test_services_that_start_together_bring_it_up_once(
    database: Database, tmp_path: Path
) -> None:
    newest = release(tmp_path, ADD, RENAME)
    await asyncio.gather(*(apply_schema(database, "things", newest) for _ in range(4)))
    assert await versions(database) == [(1, 1), (2, 1), (3, 3)]


async def test_the_services_tables_have_versions(database: Database) -> None:
    await apply_schema(database, "training jobs", job_store.SCHEMA)
    name = Component(job_store.SCHEMA).name
    found = await rows(
        database, "SELECT component, max(version) FROM mesh.schema_versions GROUP BY 1"
    )
    assert found == [(name, Component(job_store.SCHEMA).versions[-1].number)]
