"""A user's transaction locks the training table of one model; Airflow in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from dataclasses import replace

import psycopg2
import pytest

from mesh import errors
from mesh.client import AsyncMeshClient
from tests.real_parts.trigger_service import examples, query, running_trigger, until
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.database.timeouts import WHOLE_TABLE
from trigger_svc.dataset import training_rows
from trigger_svc.service import CALLERS_THREADS

WAITING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND wait_event_type = 'Lock' AND application_name = 'mesh-trigger'"
)


@pytest.fixture
def airflow() -> MemoryAirflow:
    return MemoryAirflow()


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
        connection.cursor().execute("LOCK TABLE training.locked IN ACCESS EXCLUSIVE MODE")
        yield


@pytest.mark.usefixtures("locked")
async def test_the_bridge_seals_while_questions_about_a_locked_table_hold_every_callers_connection(
    client: AsyncMeshClient,
    airflow: MemoryAirflow,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The questions outlast the test, however busy the machine is.
    monkeypatch.setattr(training_rows, "WHOLE_TABLE", replace(WHOLE_TABLE, lock_ms=600_000))
    questions = [
        asyncio.create_task(client.get_dataset("locked")) for _ in range(CALLERS_THREADS + 1)
    ]

    async def all_taken() -> bool:
        return query(postgres_url, WAITING) == [(CALLERS_THREADS,)]

    async def run_started() -> bool:
        return "retrain__free__1" in airflow.runs

    await until(all_taken)
    query(postgres_url, "INSERT INTO training.free (text, label) VALUES ('new', 'a')")
    await until(run_started)
    assert await all_taken()
    for question in questions:
        question.cancel()
    await asyncio.gather(*questions, return_exceptions=True)


@pytest.mark.usefixtures("locked")
async def test_a_question_about_a_locked_table_ends_as_unavailable_with_its_limit(
    client: AsyncMeshClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_rows, "WHOLE_TABLE", replace(WHOLE_TABLE, lock_ms=100))
    with pytest.raises(errors.Unavailable, match=r"counting the rows of locked .*waited 0.1 s"):
        await client.get_dataset("locked")
