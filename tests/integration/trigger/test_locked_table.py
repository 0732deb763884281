"""A user's transaction locks the training table of one model; Airflow in memory."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace

import grpc
import psycopg2
import pytest
from grpc import aio

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import batch_pb2, data_pb2, data_pb2_grpc
from tests.real_parts.trigger_service import (
    examples,
    query,
    running_trigger,
    serving_trigger,
    until,
)
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.database.timeouts import CALLER
from trigger_svc.dataset import training_rows
from trigger_svc.service import CALLERS_THREADS, CALLS_OF_A_MODEL

AT_WORK = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock' AND application_name = 'mesh-trigger'"
)
LOCK = "LOCK TABLE training.locked IN ACCESS EXCLUSIVE MODE"
LOCKED_INSERT = "INSERT INTO training.locked (text, label) VALUES ('new', 'a')"
FREE_INSERT = "INSERT INTO training.free (text, label) VALUES ('new', 'a')"
SOON_S = 10.0  # for a machine that is busy; the calls that wait are far slower


@pytest.fixture
async def client(postgres_url: str, airflow: MemoryAirflow) -> AsyncIterator[AsyncMeshClient]:
    """A client of a service with the models `locked` and `free`, which have no waiting rows."""
    async with running_trigger(postgres_url, airflow) as running:
        for model in ("locked", "free"):
            await running.import_examples(model, examples(10), no_train=True)
        yield running


@pytest.fixture
def locked(postgres_url: str, client: AsyncMeshClient) -> Iterator[None]:
    with closing(psycopg2.connect(postgres_url)) as connection:
        connection.cursor().execute(LOCK)
        yield


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls outlast the test, however busy the machine is."""
    monkeypatch.setattr(training_rows, "CALLER", replace(CALLER, lock_ms=600_000))


async def troubles(client: AsyncMeshClient, model: str = "") -> dict[str, str]:
    page = await client.list_batches_page(model)
    return {trouble.model: trouble.message for trouble in page.troubles}


@pytest.mark.usefixtures("locked", "patient")
async def test_questions_about_a_locked_table_leave_the_connections_to_the_other_models(
    client: AsyncMeshClient, airflow: MemoryAirflow, postgres_url: str
) -> None:
    questions = [
        asyncio.create_task(client.get_dataset("locked")) for _ in range(CALLERS_THREADS + 1)
    ]

    async def at_work() -> bool:
        return query(postgres_url, AT_WORK) == [(CALLS_OF_A_MODEL,)]

    await until(at_work)
    begin = time.monotonic()
    assert (await client.get_dataset("free")).rows.train == 8
    assert (await client.add_examples("free", examples(3, prefix="more"))).added == 3
    assert time.monotonic() - begin < SOON_S
    query(postgres_url, FREE_INSERT)

    async def run_started() -> bool:
        return "retrain__free__1" in airflow.runs

    await until(run_started)
    assert await at_work()
    for question in questions:
        question.cancel()
    await asyncio.gather(*questions, return_exceptions=True)


@pytest.mark.usefixtures("locked", "patient")
async def test_the_statement_of_a_caller_who_left_is_cancelled(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    async def at_work() -> bool:
        return query(postgres_url, AT_WORK) == [(1,)]

    async def given_up() -> bool:
        return query(postgres_url, AT_WORK) == [(0,)]

    question = asyncio.create_task(client.get_dataset("locked"))
    await until(at_work)
    question.cancel()
    await until(given_up)
    await asyncio.gather(question, return_exceptions=True)


@pytest.mark.usefixtures("locked", "patient")
async def test_the_statement_of_a_call_whose_deadline_has_passed_is_cancelled(
    postgres_url: str,
) -> None:
    async with (
        serving_trigger(postgres_url, MemoryAirflow()) as address,
        aio.insecure_channel(address) as channel,
    ):
        stub = data_pb2_grpc.DataServiceStub(channel)
        with pytest.raises(aio.AioRpcError) as caught:
            await stub.GetDataset(data_pb2.GetDatasetRequest(model="locked"), timeout=0.5)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        async def given_up() -> bool:
            return query(postgres_url, AT_WORK) == [(0,)]

        await until(given_up)


@pytest.mark.usefixtures("locked")
async def test_a_call_about_a_locked_table_ends_as_unavailable_with_its_limit(
    client: AsyncMeshClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_rows, "CALLER", replace(CALLER, lock_ms=100))
    with pytest.raises(errors.Unavailable, match=r"counting the rows of locked .*waited 0.1 s"):
        await client.get_dataset("locked")


async def test_the_bridge_passes_over_a_locked_table_and_says_so(
    client: AsyncMeshClient, airflow: MemoryAirflow, postgres_url: str
) -> None:
    query(postgres_url, "UPDATE mesh.models SET seal_quiet_ms = 2000 WHERE name = 'locked'")
    query(postgres_url, LOCKED_INSERT)
    with closing(psycopg2.connect(postgres_url)) as connection:
        connection.cursor().execute(LOCK)

        async def said() -> bool:
            return "lock timeout" in (await troubles(client)).get("locked", "")

        await until(said)
        begin = time.monotonic()
        query(postgres_url, FREE_INSERT)

        async def run_started() -> bool:
            return "retrain__free__1" in airflow.runs

        await until(run_started)
        assert time.monotonic() - begin < SOON_S
        assert "retrain__locked__1" not in airflow.runs
        assert await troubles(client, "free") == {}

    async def sealed() -> bool:
        page = await client.list_batches_page("locked")
        running = [batch.state for batch in page.batches] == [batch_pb2.BATCH_STATE_RUNNING]
        return running and not page.troubles

    await until(sealed)
