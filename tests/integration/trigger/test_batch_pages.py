"""ListBatches by pages, and the reasons that it shows, on a real PostgreSQL."""

from collections.abc import AsyncIterator

import pytest

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import batch_pb2
from tests.real_parts.trigger_service import examples, query, running_trigger, until_state
from trigger_svc.bridge.airflow import RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow

COUNT = 25


@pytest.fixture
async def client(postgres_url: str, airflow: MemoryAirflow) -> AsyncIterator[AsyncMeshClient]:
    """A client of a service with two models of 25 ended batches each, two for each moment."""
    async with running_trigger(postgres_url, airflow) as running:
        for model in ("first", "second"):
            await running.import_examples(model, examples(10), no_train=True)
            add(postgres_url, model, 1, COUNT)
        yield running


def add(url: str, model: str, first: int, last: int) -> None:
    query(
        url,
        "INSERT INTO mesh.batches (id, model, number, rows, reason, state, sealed_at)"
        " SELECT 'retrain__' || %s || '__' || n, %s, n, 1, 'QUIET', 'SUCCEEDED',"
        " timestamptz '2026-01-01' + make_interval(mins => n / 2)"
        " FROM generate_series(%s, %s) AS n",
        *(model, model, first, last),
    )


async def pages(client: AsyncMeshClient, model: str, size: int, url: str = "") -> list[list[str]]:
    """Read every page; with a `url`, batches are added after the first page."""
    read: list[list[str]] = []
    token = ""
    while True:
        page = await client.list_batches_page(model, page_size=size, page_token=token)
        read.append([batch.id for batch in page.batches])
        token = page.next_page_token
        if not token:
            return read
        if url and len(read) == 1:
            add(url, "first", COUNT + 1, COUNT + 5)


@pytest.mark.parametrize("model", ["", "first"])
@pytest.mark.parametrize("size", [1, 7, 25, 1_000])
async def test_the_pages_together_hold_every_batch_once_newest_first(
    client: AsyncMeshClient, model: str, size: int
) -> None:
    read = await pages(client, model, size)
    together = [name for page in read for name in page]
    total = COUNT if model else 2 * COUNT
    assert len(together) == len(set(together)) == total
    numbers = [int(name.rpartition("__")[2]) for name in together]
    assert numbers == sorted(numbers, reverse=True)
    assert [len(page) for page in read[:-1]] == [size] * (len(read) - 1)


@pytest.mark.parametrize("model", ["", "first"])
async def test_batches_that_are_sealed_meanwhile_shift_no_page(
    client: AsyncMeshClient, postgres_url: str, model: str
) -> None:
    before = [name for page in await pages(client, model, 100) for name in page]
    read = await pages(client, model, 10, url=postgres_url)
    assert [name for page in read for name in page] == before


async def test_a_token_goes_with_its_own_list_only(client: AsyncMeshClient) -> None:
    page = await client.list_batches_page("first", page_size=2)
    for model, unresolved, token in (
        ("second", False, page.next_page_token),
        ("first", True, page.next_page_token),
        ("first", False, page.next_page_token[:-2]),
        ("first", False, "no token"),
    ):
        with pytest.raises(errors.InvalidArgument, match="page_token"):
            await client.list_batches_page(model, page_token=token, unresolved=unresolved)
    with pytest.raises(errors.InvalidArgument, match="page_size"):
        await client.list_batches_page("first", page_size=1_001)


async def test_a_failed_batch_shows_the_training_jobs_own_reason(
    client: AsyncMeshClient, airflow: MemoryAirflow, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(10))
    await until_state(client, batch_pb2.BATCH_STATE_RUNNING)
    query(
        postgres_url,
        "CREATE TABLE mesh.training_jobs"
        " (id text, request_id text, model text, state text, version text, error text)",
    )
    query(
        postgres_url,
        "INSERT INTO mesh.training_jobs VALUES ('job-1', 'retrain__reviews__1', 'reviews',"
        " 'FAILED', '', 'the base model has no tokenizer')",
    )
    airflow.broken_tasks = ["Train_Model"]
    airflow.end("retrain__reviews__1", RunState.FAILED)
    batch = await until_state(client, batch_pb2.BATCH_STATE_FAILED)
    assert batch.error == "the training failed: the base model has no tokenizer"
    query(postgres_url, "UPDATE mesh.training_jobs SET state = 'SUCCEEDED', error = ''")
    (batch,) = await client.list_batches("reviews")
    assert batch.error.startswith("its training succeeded, and then the run failed in Train_Model")


async def test_a_database_that_was_restored_does_not_take_an_old_run_for_its_batch(
    client: AsyncMeshClient, airflow: MemoryAirflow, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(10))
    await until_state(client, batch_pb2.BATCH_STATE_RUNNING)
    airflow.end("retrain__reviews__1", RunState.SUCCEEDED)
    await until_state(client, batch_pb2.BATCH_STATE_SUCCEEDED)
    # What a backup from before that batch leaves.
    query(postgres_url, "DELETE FROM mesh.batches WHERE model = 'reviews'")
    query(postgres_url, "UPDATE mesh.models SET next_batch = 1 WHERE name = 'reviews'")
    sealed = await client.import_examples("reviews", examples(20, prefix="new"))
    assert sealed.batch.id == "retrain__reviews__1"
    batch = await until_state(client, batch_pb2.BATCH_STATE_RUNNING)
    assert (batch.id, batch.rows) == ("retrain__reviews__2", 16)
    assert airflow.runs[batch.id].conf["rows"] == 16
    old = (await client.list_batches("reviews"))[1]
    assert "batch retrain__reviews__2 has the rows now" in old.error
    assert await client.list_batches("reviews", unresolved=True) == []
