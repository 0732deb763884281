"""Batches that are sent again, bridges that are superseded, and what is forgotten."""

from collections.abc import AsyncIterator
from contextlib import closing

import psycopg2
import pytest

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2
from service_kit.database import Database, apply_schema
from tests.real_parts.trigger_service import (
    examples,
    query,
    running_trigger,
    settings,
    until,
    until_state,
)
from trigger_svc.batches.batch import BatchReason, BatchState
from trigger_svc.batches.postgres_batches import KEEP_BATCHES, PostgresBatches, Superseded
from trigger_svc.bridge.airflow import Refused, RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.bridge.bridge_session import BridgeSession
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

FIRST = "retrain__reviews__1"
INSERT = "INSERT INTO training.reviews (text, label) VALUES ('new', 'a')"


@pytest.fixture
def airflow() -> MemoryAirflow:
    return MemoryAirflow()


@pytest.fixture
async def client(postgres_url: str, airflow: MemoryAirflow) -> AsyncIterator[AsyncMeshClient]:
    async with running_trigger(postgres_url, airflow) as running:
        yield running


async def failed_batch(client: AsyncMeshClient, airflow: MemoryAirflow) -> data_pb2.Batch:
    """The first batch of the model, whose run has failed."""
    await client.import_examples("reviews", examples(10))
    await until_state(client, data_pb2.BATCH_STATE_RUNNING)
    airflow.end(FIRST, RunState.FAILED)
    return await until_state(client, data_pb2.BATCH_STATE_FAILED)


async def test_a_refused_batch_is_shown_until_it_is_sent_again(
    client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    airflow.failures = [Refused("Airflow answered 422: no")]
    await client.import_examples("reviews", examples(10))
    await until_state(client, data_pb2.BATCH_STATE_DEAD)
    (stuck,) = await client.list_batches(unresolved=True)
    assert (stuck.id, stuck.error) == (FIRST, "Airflow answered 422: no")

    sent = await client.retry("reviews", FIRST, request_id="once")
    assert (sent.state, sent.error, sent.retries) == (data_pb2.BATCH_STATE_SEALED, "", 1)
    await until_state(client, data_pb2.BATCH_STATE_RUNNING)
    again = await client.retry("reviews", FIRST, request_id="once")
    assert again.retries == 1
    assert list(airflow.runs) == [FIRST]
    assert await client.list_batches(unresolved=True) == []


async def test_a_failed_batch_keeps_its_run_when_it_is_sent_again(
    client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    failed = await failed_batch(client, airflow)
    assert failed.HasField("ended_at")
    assert [batch.id for batch in await client.list_batches(unresolved=True)] == [FIRST]

    await client.retry("reviews")
    await until_state(client, data_pb2.BATCH_STATE_RUNNING)
    assert (airflow.posts, airflow.restarts) == ([FIRST], [FIRST])
    airflow.end(FIRST, RunState.SUCCEEDED)
    batch = await until_state(client, data_pb2.BATCH_STATE_SUCCEEDED)
    assert (batch.rows, batch.retries) == (8, 1)


async def test_a_failed_batch_that_another_followed_is_resolved(
    client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    await failed_batch(client, airflow)
    await client.trigger("reviews")
    assert await client.list_batches(unresolved=True) == []


async def test_a_batch_that_is_sent_again_queues_behind_what_waits_already(
    client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    await failed_batch(client, airflow)
    second = await client.trigger("reviews")
    third = await client.trigger("reviews")
    await client.retry("reviews", FIRST)
    for name in (second.id, third.id):

        async def posted(name: str = name) -> bool:
            return name in airflow.runs

        await until(posted)
        assert airflow.restarts == []
        airflow.end(name, RunState.SUCCEEDED)

    async def begun_again() -> bool:
        return airflow.restarts == [FIRST]

    await until(begun_again)


async def test_only_what_ended_badly_is_sent_again(
    client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    with pytest.raises(errors.NotFound, match="mesh import reviews"):
        await client.retry("reviews")
    await client.import_examples("reviews", examples(10))
    with pytest.raises(errors.FailedPrecondition, match="no batch of reviews has failed"):
        await client.retry("reviews")
    with pytest.raises(errors.NotFound, match="reviews has no batch 'retrain__others__1'"):
        await client.retry("reviews", "retrain__others__1")
    await until_state(client, data_pb2.BATCH_STATE_RUNNING)
    with pytest.raises(errors.FailedPrecondition, match=f"{FIRST} is running"):
        await client.retry("reviews", FIRST)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    """A database with the tables of a model."""
    made = Database(postgres_url, "test")
    await apply_schema(made, "trigger", SCHEMA)
    await made.run(lambda cursor: cursor.execute(model_table("reviews")))
    query(postgres_url, "INSERT INTO mesh.models (name) VALUES ('reviews')")
    yield made
    await made.close()


async def leading(url: str, store: PostgresBatches) -> BridgeSession:
    session = await BridgeSession.open(url)
    assert await session.try_lead()
    assert session.epoch is not None
    store.write_as(session.epoch)
    return session


async def test_what_a_superseded_bridge_writes_is_refused(
    postgres_url: str, database: Database
) -> None:
    stale, fresh = (PostgresBatches(database, settings(postgres_url)) for _ in range(2))
    (await leading(postgres_url, stale)).close()  # its session is lost, and it does not know
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


async def test_a_writer_in_the_way_leaves_the_bridge_to_be_woken(
    postgres_url: str, database: Database
) -> None:
    session = await BridgeSession.open(postgres_url)
    with closing(psycopg2.connect(postgres_url)) as slow:
        slow.cursor().execute(INSERT)  # it has seen the bridge asleep, and will wake it
        told = []
        for end in (slow.commit, slow.close):
            await session.stay_awake()
            told.append(session.awake)
            end()
        assert told == [False, True]
    query(postgres_url, INSERT)
    await session.check()
    assert await session.wait(5.0)  # the slow one's
    assert not await session.wait(0.1)
    session.close()


async def test_every_row_can_be_told_its_batch(postgres_url: str, database: Database) -> None:
    store = PostgresBatches(database, settings(postgres_url))
    (await leading(postgres_url, store)).close()
    for number in (1, 2):
        query(postgres_url, INSERT)
        query(postgres_url, INSERT)
        await store.seal("reviews", BatchReason.QUIET)
        await store.mark_accepted(f"retrain__reviews__{number}")
        await store.mark_ended(f"retrain__reviews__{number}", BatchState.SUCCEEDED, "")
    told = query(
        postgres_url,
        "SELECT reviews.id, batches.id FROM training.reviews"
        " JOIN mesh.batches ON row_ids @> reviews.id ORDER BY 1",
    )
    second = "retrain__reviews__2"
    assert told == [(1, FIRST), (2, FIRST), (3, second), (4, second)]


async def test_a_start_of_the_service_makes_no_insert_wait(
    postgres_url: str, database: Database
) -> None:
    with closing(psycopg2.connect(postgres_url)) as slow:
        slow.cursor().execute(INSERT)  # and no end of its transaction
        await apply_schema(database, "trigger", SCHEMA)
        query(postgres_url, "SET lock_timeout = '5s'; " + INSERT)


async def test_old_batches_are_forgotten_and_the_newest_stay(
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
