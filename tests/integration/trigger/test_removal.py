"""Rows that are deleted by their text, and models that end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import closing
from typing import TYPE_CHECKING

import grpc
import psycopg2
import pytest
from grpc import aio

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2, model_rows_pb2, model_rows_pb2_grpc
from tests.real_parts.trigger_service import examples, query, serving_trigger, until
from trigger_svc.bridge.airflow_memory import MemoryAirflow

if TYPE_CHECKING:
    Stub = model_rows_pb2_grpc.ModelRowsServiceAsyncStub

Example = data_pb2.Example
TABLES_OF_MESH = ("outbox", "removals", "requests", "troubles", "batches", "models")


@pytest.fixture
async def address(postgres_url: str, airflow: MemoryAirflow) -> AsyncIterator[str]:
    async with serving_trigger(postgres_url, airflow) as running:
        yield running


@pytest.fixture
async def client(address: str) -> AsyncIterator[AsyncMeshClient]:
    async with AsyncMeshClient(address) as running:
        yield running


@pytest.fixture
async def rows(address: str) -> AsyncIterator[Stub]:
    async with aio.insecure_channel(address) as channel:
        yield model_rows_pb2_grpc.ModelRowsServiceStub(channel)


def forget(model: str, with_rows: bool = False) -> model_rows_pb2.ForgetRequest:
    return model_rows_pb2.ForgetRequest(model=model, with_rows=with_rows)


def entries(url: str, model: str) -> int:
    """Number of rows of the service's own tables that name the model."""
    counts = " + ".join(
        f"(SELECT count(*) FROM mesh.{table} WHERE {'name' if table == 'models' else 'model'}"
        f" = '{model}')"
        for table in TABLES_OF_MESH
    )
    return int(query(url, f"SELECT {counts}")[0][0])


async def test_every_row_with_one_of_the_texts_is_deleted_once(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    twice = [Example(text="twice", label="a"), Example(text="twice", label="b")]
    await client.add_examples("reviews", twice)
    texts = ["twice", "text 3", "Text 3", "nowhere"]
    for _ in range(2):
        answer = await client.delete_examples("reviews", texts, request_id="once")
        assert (answer.model, answer.deleted, answer.request_id) == ("reviews", 3, "once")
    assert query(postgres_url, "SELECT count(*) FROM training.reviews") == [(9,)]
    assert (await client.delete_examples("reviews", texts)).deleted == 0


async def test_a_deletion_with_bad_texts_deletes_nothing(client: AsyncMeshClient) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    for texts in ([], ["x"] * 1_001):
        with pytest.raises(errors.InvalidArgument, match=r"texts: has .* send 1 to 1,000"):
            await client.delete_examples("reviews", texts)
    with pytest.raises(errors.InvalidArgument, match=r"texts\[1\]: has a NUL"):
        await client.delete_examples("reviews", ["text 1", "\0"])
    with pytest.raises(errors.NotFound, match="mesh import nobody"):
        await client.delete_examples("nobody", ["text 1"])
    dataset = await client.get_dataset("reviews")
    assert dataset.rows.train + dataset.rows.test == 10


async def test_rows_that_the_owner_holds_on_to_are_not_deleted(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    query(
        postgres_url, "CREATE TABLE notes (row bigint CONSTRAINT kept REFERENCES training.reviews)"
    )
    query(postgres_url, "INSERT INTO notes SELECT id FROM training.reviews WHERE text = 'text 1'")
    with pytest.raises(errors.FailedPrecondition, match='constraint "kept"'):
        await client.delete_examples("reviews", ["text 0", "text 1"])
    dataset = await client.get_dataset("reviews")
    assert dataset.rows.train + dataset.rows.test == 10


async def test_a_model_that_is_forgotten_starts_nothing_and_its_rows_stay(
    client: AsyncMeshClient,
    rows: Stub,
    airflow: MemoryAirflow,
    postgres_url: str,
) -> None:
    await client.import_examples("reviews", examples(10))
    await client.trigger("reviews")

    async def posted() -> bool:
        return "retrain__reviews__1" in airflow.runs

    await until(posted)
    for known in (True, False):
        answer = await rows.Forget(forget("reviews"))
        assert (answer.known, answer.rows_removed) == (known, False)
    assert entries(postgres_url, "reviews") == 0
    with pytest.raises(errors.NotFound):
        await client.list_batches("reviews")
    query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('new', 'a')")
    assert entries(postgres_url, "reviews") == 0
    assert query(postgres_url, "SELECT count(*) FROM training.reviews") == [(11,)]
    # A new model of the same name goes on counting: Airflow knows the old batches' runs.
    again = await client.import_examples("reviews", examples(10, prefix="again"))
    assert (again.created, again.batch.id) == (False, "retrain__reviews__3")


async def test_a_model_is_forgotten_with_its_rows(
    client: AsyncMeshClient,
    rows: Stub,
    postgres_url: str,
) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    answer = await rows.Forget(forget("reviews", with_rows=True))
    assert (answer.known, answer.rows_removed) == (True, True)
    assert query(postgres_url, "SELECT to_regclass('training.reviews')") == [(None,)]
    assert not (await rows.Forget(forget("nobody", with_rows=True))).known
    assert (await client.import_examples("reviews", examples(10), no_train=True)).created


async def test_a_table_that_the_mesh_has_not_made_is_not_dropped(
    client: AsyncMeshClient,
    rows: Stub,
    postgres_url: str,
) -> None:
    query(
        postgres_url,
        "CREATE TABLE training.own (id bigserial PRIMARY KEY, text text NOT NULL,"
        " label text NOT NULL, split text NOT NULL DEFAULT 'train', source text)",
    )
    await client.import_examples("own", examples(10), no_train=True)
    with pytest.raises(aio.AioRpcError, match=r"training.own was not made by the mesh") as caught:
        await rows.Forget(forget("own", with_rows=True))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (await client.get_dataset("own")).rows.train == 8
    assert (await rows.Forget(forget("own"))).known
    assert query(postgres_url, "SELECT count(*) FROM training.own") == [(10,)]


async def test_a_table_of_an_earlier_release_is_known_as_the_meshs_own(
    client: AsyncMeshClient,
    rows: Stub,
    postgres_url: str,
) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    query(postgres_url, "COMMENT ON TABLE training.reviews IS NULL")
    assert (await rows.Forget(forget("reviews", with_rows=True))).rows_removed


async def test_a_model_whose_table_is_in_use_stays_whole(
    client: AsyncMeshClient,
    rows: Stub,
    postgres_url: str,
) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    with closing(psycopg2.connect(postgres_url)) as connection:
        connection.cursor().execute("SELECT count(*) FROM training.reviews")
        with pytest.raises(aio.AioRpcError, match="removing reviews") as caught:
            await rows.Forget(forget("reviews", with_rows=True))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    query(postgres_url, "CREATE VIEW public.seen AS SELECT * FROM training.reviews")
    with pytest.raises(aio.AioRpcError, match="other objects depend on it") as caught:
        await rows.Forget(forget("reviews", with_rows=True))
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert (await client.get_dataset("reviews")).rows.train == 8
