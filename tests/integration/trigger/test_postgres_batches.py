"""The bridge's own statements and session, in a real PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import closing

import psycopg2
import pytest

from service_kit.database import Database, apply_schema
from tests.real_parts.trigger_service import query, settings, until
from trigger_svc.batches.batch import BatchReason, BatchState
from trigger_svc.batches.postgres_batches import KEEP_BATCHES, PostgresBatches, Superseded
from trigger_svc.bridge.bridge_session import BridgeSession
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

FIRST = "retrain__reviews__1"
INSERT = "INSERT INTO training.reviews (text, label) VALUES ('new', 'a')"


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """A Database whose tables exist, with the model `reviews`."""
    made = Database(postgres_url, "test")
    await apply_schema(made, "trigger", *SCHEMA)
    await made.run(lambda cursor: cursor.execute(model_table("reviews")))
    query(postgres_url, "INSERT INTO mesh.models (name) VALUES ('reviews')")
    yield made
    await made.close()


async def leading(url: str, store: PostgresBatches) -> BridgeSession:
    """Return a session that leads; `store` writes with its epoch."""
    session = await BridgeSession.open(url)
    assert await session.try_lead()
    assert session.epoch is not None
    store.write_as(session.epoch)
    return session


async def test_writes_of_a_superseded_bridge_are_refused(
    postgres_url: str, database: Database
) -> None:
    stale, fresh = (PostgresBatches(database, settings(postgres_url)) for _ in range(2))
    # The session is lost, and `stale` does not notice.
    (await leading(postgres_url, stale)).close()
    query(postgres_url, INSERT)
    batch = await stale.seal("reviews", BatchReason.QUIET)
    assert batch is not None

    async def follow() -> bool:
        session = await BridgeSession.open(postgres_url)
        if not await session.try_lead():
            session.close()
            return False
        fresh.write_as(session.epoch or 0)
        return True

    await until(follow)
    for writes in (
        stale.mark_accepted(FIRST),
        stale.mark_refused(FIRST, "400"),
        stale.mark_ended(FIRST, BatchState.FAILED, ""),
        stale.seal("reviews", BatchReason.QUIET),
    ):
        with pytest.raises(Superseded):
            await writes
    await fresh.mark_accepted(FIRST)
    assert query(postgres_url, "SELECT state FROM mesh.batches") == [("RUNNING",)]


async def test_the_bridge_is_not_awake_while_a_transaction_that_will_wake_it_is_open(
    postgres_url: str, database: Database
) -> None:
    session = await BridgeSession.open(postgres_url)
    with closing(psycopg2.connect(postgres_url)) as slow:
        slow.cursor().execute(INSERT)  # the bridge was asleep, so the commit will wake it
        awake = []
        for end in (slow.commit, slow.close):
            await session.stay_awake()
            awake.append(session.awake)
            end()
        assert awake == [False, True]
    query(postgres_url, INSERT)
    await session.check()
    assert await session.wait(5.0)  # the slow transaction woke it
    assert not await session.wait(0.1)
    session.close()


async def test_the_batch_of_every_row_can_be_found(postgres_url: str, database: Database) -> None:
    store = PostgresBatches(database, settings(postgres_url))
    (await leading(postgres_url, store)).close()
    for number in (1, 2):
        query(postgres_url, INSERT)
        query(postgres_url, INSERT)
        await store.seal("reviews", BatchReason.QUIET)
        await store.mark_accepted(f"retrain__reviews__{number}")
        await store.mark_ended(f"retrain__reviews__{number}", BatchState.SUCCEEDED, "")
    batches = query(
        postgres_url,
        "SELECT reviews.id, batches.id FROM training.reviews"
        " JOIN mesh.batches ON row_ids @> reviews.id ORDER BY 1",
    )
    second = "retrain__reviews__2"
    assert batches == [(1, FIRST), (2, FIRST), (3, second), (4, second)]


async def test_a_start_of_the_service_makes_no_insert_wait(
    postgres_url: str, database: Database
) -> None:
    with closing(psycopg2.connect(postgres_url)) as slow:
        slow.cursor().execute(INSERT)  # its transaction stays open
        await apply_schema(database, "trigger", *SCHEMA)
        query(postgres_url, "SET lock_timeout = '5s'; " + INSERT)


async def test_old_batches_are_deleted_and_the_newest_stay(
    postgres_url: str, database: Database
) -> None:
    store = PostgresBatches(database, settings(postgres_url, keep_days=7))
    (await leading(postgres_url, store)).close()
    query(
        postgres_url,
        "INSERT INTO mesh.batches (id, model, number, rows, reason, state, ended_at)"
        " SELECT 'retrain__reviews__' || n, 'reviews', n, 1, 'QUIET', 'SUCCEEDED',"
        " now() - interval '8 days' FROM generate_series(1, 110) AS n",
    )
    query(postgres_url, "UPDATE mesh.models SET next_batch = 111")
    query(postgres_url, "UPDATE mesh.batches SET ended_at = now() WHERE number = 1")
    await store.delete_old()
    kept = [number for (number,) in query(postgres_url, "SELECT number FROM mesh.batches")]
    assert sorted(kept) == [1, *range(111 - KEEP_BATCHES, 111)]
