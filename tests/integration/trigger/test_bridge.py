"""The bridge at work on a real PostgreSQL; Airflow in memory."""

import asyncio
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import psycopg2

from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2
from service_kit.errors import Unavailable
from tests.real_parts.postgres import free_port, running_postgres
from tests.real_parts.trigger_service import examples, query, running_trigger, until, until_state
from trigger_svc.bridge.airflow import RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow

INSERT = "INSERT INTO training.reviews (text, label) VALUES ('new', 'a')"


async def imported(client: AsyncMeshClient) -> None:
    """Make the model `reviews` without starting a training."""
    await client.import_examples("reviews", examples(10), no_train=True)


async def until_posted(airflow: MemoryAirflow, count: int) -> None:
    async def posted() -> bool:
        return len(airflow.runs) >= count

    await until(posted)


async def test_an_insert_starts_a_run_after_its_quiet_time(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow, seal_quiet_ms=300) as client:
        await imported(client)
        await asyncio.sleep(0.5)  # by now the bridge sleeps and has to be woken
        inserted = time.monotonic()
        query(postgres_url, INSERT)
        await until_posted(airflow, 1)
        # Without a wake-up the bridge would look again much later.
        assert 0.25 <= time.monotonic() - inserted < 20
        batch = await until_state(client, data_pb2.BATCH_STATE_RUNNING)
        assert (batch.rows, batch.reason) == (1, data_pb2.BATCH_REASON_QUIET)
        airflow.end(batch.id, RunState.SUCCEEDED)
        await until_state(client, data_pb2.BATCH_STATE_SUCCEEDED)


async def test_many_rows_are_sealed_at_once(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(
        postgres_url, airflow, seal_quiet_ms=60_000, seal_rows=1_000
    ) as client:
        await imported(client)
        query(
            postgres_url,
            "INSERT INTO training.reviews (text, label)"
            " SELECT 'row ' || n, 'a' FROM generate_series(1, 1000) AS n",
        )
        batch = await until_state(client, data_pb2.BATCH_STATE_RUNNING)
        assert (batch.rows, batch.reason) == (1_000, data_pb2.BATCH_REASON_COUNT)


async def test_a_model_may_have_its_own_limits(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow, seal_quiet_ms=60_000) as client:
        await imported(client)
        query(postgres_url, "UPDATE mesh.models SET seal_age_ms = 300")
        query(postgres_url, INSERT)
        batch = await until_state(client, data_pb2.BATCH_STATE_RUNNING)
        assert batch.reason == data_pb2.BATCH_REASON_AGE


async def test_rows_that_come_during_a_run_make_one_batch_after_it(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow) as client:
        await imported(client)
        query(postgres_url, INSERT)
        first = await until_state(client, data_pb2.BATCH_STATE_RUNNING)
        for _ in range(5):
            query(postgres_url, INSERT)
        await asyncio.sleep(0.6)  # three times the quiet time of 200 ms
        assert list(airflow.runs) == [first.id]
        assert (await client.get_dataset("reviews")).pending_rows == 5
        airflow.end(first.id, RunState.FAILED)
        await until_posted(airflow, 2)
        assert airflow.runs["retrain__reviews__2"].conf["rows"] == 5


async def test_rows_deleted_before_the_seal_start_nothing(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow, seal_quiet_ms=500) as client:
        await imported(client)
        query(postgres_url, INSERT)
        query(postgres_url, "DELETE FROM training.reviews WHERE text = 'new'")

        async def taken() -> bool:
            return query(postgres_url, "SELECT count(*) FROM mesh.outbox") == [(0,)]

        await until(taken)
        assert await client.list_batches("reviews") == []


async def test_a_table_that_was_dropped_does_not_stop_the_bridge(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow) as client:
        await imported(client)
        await client.import_examples("others", examples(10), no_train=True)
        query(postgres_url, INSERT)
        query(postgres_url, "DROP TABLE training.reviews")
        query(postgres_url, "INSERT INTO training.others (text, label) VALUES ('new', 'a')")
        await until_posted(airflow, 1)
        assert list(airflow.runs) == ["retrain__others__1"]


async def test_a_transaction_that_outlasts_the_burst_is_not_missed(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow) as client:
        await imported(client)
        with closing(psycopg2.connect(postgres_url)) as slow:
            query(postgres_url, INSERT)
            await asyncio.sleep(0.1)
            # The bridge is awake, so this INSERT does not wake it. Its transaction commits when the
            # bridge would be asleep.
            slow.cursor().execute(INSERT)
            await until_posted(airflow, 1)
            airflow.end("retrain__reviews__1", RunState.SUCCEEDED)
            await until_state(client, data_pb2.BATCH_STATE_SUCCEEDED)
            await asyncio.sleep(0.5)
            slow.commit()
        committed = time.monotonic()
        await until_posted(airflow, 2)
        assert time.monotonic() - committed < 20  # a silence is checked after 30


async def test_of_two_bridges_one_works_and_the_other_follows_it(postgres_url: str) -> None:
    first, second = MemoryAirflow(), MemoryAirflow()
    async with AsyncExitStack() as stack:
        async with running_trigger(postgres_url, first) as client:
            other = await stack.enter_async_context(running_trigger(postgres_url, second))
            await imported(client)
            query(postgres_url, INSERT)
            await until_posted(first, 1)
            assert second.posts == []
        second.states["retrain__reviews__1"] = RunState.SUCCEEDED
        await until_state(other, data_pb2.BATCH_STATE_SUCCEEDED)
        query(postgres_url, INSERT)
        await until_posted(second, 1)


async def test_a_lost_session_is_replaced(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    async with running_trigger(postgres_url, airflow) as client:
        await imported(client)
        terminated = query(
            postgres_url,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name LIKE 'mesh-%%'",
        )
        assert len(terminated) >= 2
        query(postgres_url, INSERT)
        await until_posted(airflow, 1)


async def test_an_import_survives_airflow_away_and_a_restart(postgres_url: str) -> None:
    airflow = MemoryAirflow()
    airflow.failures = [Unavailable("Airflow is away")] * 3
    async with running_trigger(postgres_url, airflow) as client:
        await client.import_examples("reviews", examples(10))

        async def deferred() -> bool:
            return "away" in (await client.list_batches("reviews"))[0].error

        await until(deferred)
    async with running_trigger(postgres_url, airflow) as client:
        batch = await until_state(client, data_pb2.BATCH_STATE_RUNNING)
        assert (batch.id, batch.error) == ("retrain__reviews__1", "")


async def test_postgres_may_go_and_come_back(tmp_path: Path) -> None:
    airflow, port = MemoryAirflow(), free_port()
    async with AsyncExitStack() as stack:
        with running_postgres(tmp_path, port) as url:
            client = await stack.enter_async_context(running_trigger(url, airflow))
            await imported(client)
        with running_postgres(tmp_path, port) as url:
            query(url, INSERT)
            await until_posted(airflow, 1)
            assert (await client.get_dataset("reviews")).rows.train == 9
            await stack.aclose()
