"""Batches that callers send again."""

from collections.abc import AsyncIterator

import pytest

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2
from tests.real_parts.trigger_service import (
    examples,
    running_trigger,
    until,
    until_state,
)
from trigger_svc.bridge.airflow import Refused, RunState
from trigger_svc.bridge.airflow_memory import MemoryAirflow

FIRST = "retrain__reviews__1"
INSERT = "INSERT INTO training.reviews (text, label) VALUES ('new', 'a')"


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
