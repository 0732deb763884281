"""What the control plane keeps in PostgreSQL: answers by request id, and removals."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from control_plane.changes import answer_store
from control_plane.changes.answer_store import PostgresAnswers, StoredAnswer
from control_plane.removal import removed_models
from control_plane.removal.removed_models import PostgresRemovals, Removal
from service_kit.database import Database, apply_schema
from service_kit.errors import Unavailable
from service_kit.model_registry import promotion
from tests.real_parts.postgres import execute


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url, "test", threads=1)
    yield database
    await database.close()


async def with_tables(database: Database) -> Database:
    scripts = (promotion.SCHEMA, answer_store.SCHEMA, removed_models.SCHEMA)
    await apply_schema(database, "control plane", *scripts)
    return database


async def test_an_answer_is_found_again_under_its_kind_and_id(database: Database) -> None:
    answers = PostgresAnswers(await with_tables(database))
    kept = StoredAnswer("reload reviews", None, {"to_version": "2", "replicas": [{"swap_ms": 0.5}]})
    await answers.keep("change", "a", kept)
    assert await answers.find("change", "a") == kept
    assert await answers.find("traffic", "a") is None
    again = replace(kept, incarnation="7")
    await answers.keep("change", "a", again)
    assert await answers.find("change", "a") == again


async def test_old_answers_and_too_many_are_deleted(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_store, "KEPT_ANSWERS", 3)
    answers = PostgresAnswers(await with_tables(database))
    answer = StoredAnswer("reload reviews", "7", {})
    await answers.keep("traffic", "other", answer)
    await answers.keep("change", "old", answer)
    execute(
        database.url, "UPDATE mesh.answered_requests SET answered_at = now() - interval '8 days'"
    )
    for number in range(5):
        await answers.keep("change", f"r{number}", answer)
    known = [number for number in range(5) if await answers.find("change", f"r{number}")]
    assert known == [2, 3, 4]
    assert await answers.find("change", "old") is None
    assert await answers.find("traffic", "other") == answer, "each kind has its own limit"


async def test_before_the_tables_are_there_the_store_is_unavailable(database: Database) -> None:
    with pytest.raises(Unavailable, match="not there yet"):
        await PostgresAnswers(database).find("change", "a")
    with pytest.raises(Unavailable, match="not there yet"):
        await PostgresRemovals(database).all()


async def test_a_removal_is_kept_until_too_many_newer_ones_are(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removed_models, "REMEMBERED", 2)
    removals = PostgresRemovals(await with_tables(database))
    first = Removal("first", 7, ("1", "2"), ("s3://a",), True, "request")
    await removals.save(first)
    assert await removals.all() == [first]
    done = replace(first, rows_removed=True, done=True)
    for name in ("first", "second", "third"):
        await removals.save(replace(done, model=name))
    assert [removal.model for removal in await removals.all()] == ["third", "second"]
