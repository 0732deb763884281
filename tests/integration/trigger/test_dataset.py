"""DataService against a real PostgreSQL; Airflow in memory."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest
from grpc import aio

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2, data_pb2_grpc
from tests.real_parts.trigger_service import (
    examples,
    query,
    running_trigger,
    serving_trigger,
    until,
)
from trigger_svc.bridge.airflow_memory import MemoryAirflow

Example = data_pb2.Example


@pytest.fixture
async def client(postgres_url: str, airflow: MemoryAirflow) -> AsyncIterator[AsyncMeshClient]:
    async with running_trigger(postgres_url, airflow) as running:
        yield running


def sides(url: str) -> dict[str, set[str]]:
    """Return the texts in the table by split."""
    rows = query(url, "SELECT split, text FROM training.reviews")
    return {side: {text for split, text in rows if split == side} for side in ("train", "test")}


def first_by_hash(texts: Sequence[str], count: int) -> set[str]:
    """Return the first `count` texts in the order of their SHA-256."""
    return set(sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())[:count])


async def test_an_import_makes_the_model_and_one_batch(
    client: AsyncMeshClient, airflow: MemoryAirflow, postgres_url: str
) -> None:
    answer = await client.import_examples("reviews", examples(50), source="first.csv")
    assert (answer.created, answer.rows.train, answer.rows.test) == (True, 40, 10)
    assert answer.batch.id == "retrain__reviews__1"
    assert (answer.batch.rows, answer.batch.reason) == (40, data_pb2.BATCH_REASON_IMPORT)
    assert query(postgres_url, "SELECT DISTINCT source FROM training.reviews") == [("first.csv",)]

    async def posted() -> bool:
        return answer.batch.id in airflow.runs

    await until(posted)
    assert airflow.runs[answer.batch.id].conf["reason"] == "IMPORT"


async def test_the_held_out_fifth_goes_by_the_hash_of_the_text(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    sent = examples(100, labels="abb")
    await client.import_examples("reviews", sent)
    held = sides(postgres_url)["test"]
    by_label = {label: [item.text for item in sent if item.label == label] for label in ("a", "b")}
    expected = [first_by_hash(texts, len(texts) // 5) for texts in by_label.values()]
    assert held == set.union(*expected)


async def test_a_text_that_the_table_has_keeps_its_split(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(50))
    before = sides(postgres_url)
    answer = await client.import_examples("reviews", examples(100))
    after = sides(postgres_url)
    assert not answer.created
    assert before["train"] <= after["train"]
    assert before["test"] <= after["test"]
    assert not after["train"] & after["test"]
    assert len(after["test"]) == 20


async def test_a_label_with_two_texts_has_one_in_each_split_and_a_single_text_is_trained_on(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    rows = [Example(text=text, label=text[0]) for text in ("a1", "a2", "a2", "b1")]
    await client.import_examples("reviews", rows)
    held = sides(postgres_url)
    assert len(held["test"]) == 1
    assert held["test"] < {"a1", "a2"}
    assert "b1" in held["train"]


async def test_a_label_has_a_held_out_text_from_its_second_text_on(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    await client.import_examples("reviews", [Example(text="a1", label="a")])
    await client.import_examples("reviews", [Example(text="a2", label="a")])
    assert sides(postgres_url) == {"train": {"a1"}, "test": {"a2"}}


async def test_a_text_under_two_labels_is_in_one_split_only(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    rows = [*examples(20, labels="a"), *examples(20, labels="b")]
    await client.import_examples("reviews", rows)
    held = sides(postgres_url)
    assert not held["train"] & held["test"]


async def test_splits_that_the_caller_names_are_kept(client: AsyncMeshClient) -> None:
    rows = [Example(text="x", label="a"), Example(text="y", label="a", split="test")]
    answer = await client.import_examples("reviews", rows)
    assert (answer.rows.train, answer.rows.test) == (1, 1)


async def test_a_test_label_that_nothing_trains_is_named_and_nothing_is_left(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    rows = [*examples(17), Example(text="z", label="c", split="test")]
    with pytest.raises(errors.InvalidArgument, match=r"examples\[17\].label: 'c' is in the test"):
        await client.import_examples("reviews", rows)
    with pytest.raises(errors.NotFound):
        await client.get_dataset("reviews")
    assert query(postgres_url, "SELECT to_regclass('training.reviews')") == [(None,)]


async def test_a_bad_example_late_in_the_stream_leaves_nothing(client: AsyncMeshClient) -> None:
    rows = [*examples(5_000), Example(text="nul \0", label="a")]
    with pytest.raises(errors.InvalidArgument, match=r"examples\[5000\].text: has a NUL"):
        await client.import_examples("reviews", rows)
    with pytest.raises(errors.NotFound, match="import rows first: mesh import reviews"):
        await client.get_dataset("reviews")


async def test_an_import_without_rows_is_refused(client: AsyncMeshClient) -> None:
    with pytest.raises(errors.InvalidArgument, match="examples: is empty"):
        await client.import_examples("reviews", [])


@pytest.mark.parametrize(
    "messages", [[], [data_pb2.ImportExamplesRequest(examples=examples(1))]], ids=["none", "rows"]
)
async def test_an_import_without_a_header_is_refused(
    postgres_url: str, messages: list[data_pb2.ImportExamplesRequest]
) -> None:
    async with (
        serving_trigger(postgres_url, MemoryAirflow()) as address,
        aio.insecure_channel(address) as channel,
    ):
        stub = data_pb2_grpc.DataServiceStub(channel)
        with pytest.raises(aio.AioRpcError, match="header: is missing") as caught:
            await stub.ImportExamples(iter(messages))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_the_same_import_again_changes_nothing(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    answers = await asyncio.gather(
        *(client.import_examples("reviews", examples(50), request_id="once") for _ in range(4))
    )
    assert {answer.batch.id for answer in answers} == {"retrain__reviews__1"}
    assert query(postgres_url, "SELECT count(*) FROM training.reviews") == [(50,)]
    with pytest.raises(errors.AlreadyExists, match="'once' was used for ImportExamples"):
        await client.trigger("reviews", request_id="once")


async def test_rows_imported_with_no_train_start_nothing(
    client: AsyncMeshClient, airflow: MemoryAirflow
) -> None:
    answer = await client.import_examples("reviews", examples(2_000), no_train=True)
    assert not answer.HasField("batch")
    assert (await client.get_dataset("reviews")).pending_rows == 0
    await asyncio.sleep(0.6)  # three times the quiet time of 200 ms
    assert await client.list_batches("reviews") == []
    assert airflow.posts == []


async def test_an_import_with_no_train_takes_its_own_entry_and_no_other(
    postgres_url: str, airflow: MemoryAirflow
) -> None:
    async with running_trigger(postgres_url, airflow, seal_quiet_ms=60_000) as client:
        await client.import_examples("reviews", examples(10), no_train=True)
        # Another writer's row, whose id lies between those of the next import.
        query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('x', 'a')")
        query(postgres_url, "UPDATE mesh.outbox SET row_ids = '{[14,15)}'")
        await client.import_examples("reviews", examples(10, prefix="more"), no_train=True)
        assert query(postgres_url, "SELECT row_ids::text FROM mesh.outbox") == [("{[14,15)}",)]


async def test_a_dataset_counts_rows_labels_and_waiting_rows(
    postgres_url: str, airflow: MemoryAirflow
) -> None:
    async with running_trigger(postgres_url, airflow, seal_quiet_ms=60_000) as client:
        await client.import_examples("reviews", examples(50))
        rows = [*examples(3, prefix="more"), Example(text="held", label="b", split="test")]
        added = await client.add_examples("reviews", rows)
        assert added.added == 4
        dataset = await client.get_dataset("reviews")
        assert (dataset.rows.train, dataset.rows.test) == (43, 11)
        labels = [(item.label, item.train, item.test) for item in dataset.labels]
        assert labels == [("a", 22, 5), ("b", 21, 6)]
        assert dataset.pending_rows == 3
        assert dataset.last_batch_id == "retrain__reviews__1"


async def test_adding_is_all_or_nothing_and_idempotent(client: AsyncMeshClient) -> None:
    await client.import_examples("reviews", examples(10))
    with pytest.raises(errors.InvalidArgument, match=r"examples\[1\].text: is blank"):
        await client.add_examples("reviews", [*examples(1, prefix="new"), Example(label="a")])
    with pytest.raises(errors.InvalidArgument, match=r"examples\[0\].label: 'c' is in the test"):
        await client.add_examples("reviews", [Example(text="x", label="c", split="test")])
    for _ in range(2):
        await client.add_examples("reviews", examples(1, prefix="new"), request_id="once")
    dataset = await client.get_dataset("reviews")
    assert dataset.rows.train + dataset.rows.test == 11


async def test_an_unknown_model_is_not_found(client: AsyncMeshClient) -> None:
    for call in (
        client.get_dataset("nobody"),
        client.trigger("nobody"),
        client.list_batches("nobody"),
        client.add_examples("nobody", examples(1)),
    ):
        with pytest.raises(errors.NotFound, match="mesh import nobody"):
            await call


async def test_a_table_that_the_mesh_did_not_make_is_left_as_it_is(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, "CREATE TABLE training.reviews (body text)")
    with pytest.raises(errors.FailedPrecondition, match="no training table of the mesh"):
        await client.import_examples("reviews", examples(10))
    triggers = "SELECT tgname FROM pg_trigger WHERE tgrelid = 'training.reviews'::regclass"
    assert query(postgres_url, triggers) == []


async def test_a_trigger_seals_at_once_even_without_rows(client: AsyncMeshClient) -> None:
    await client.import_examples("reviews", examples(10), no_train=True)
    first = await client.trigger("reviews", request_id="once")
    again = await client.trigger("reviews", request_id="once")
    assert first.id == again.id == "retrain__reviews__1"
    assert (first.rows, first.reason) == (0, data_pb2.BATCH_REASON_MANUAL)


async def test_batches_show_their_job_and_version(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(10))
    query(
        postgres_url,
        "CREATE TABLE mesh.training_jobs"
        " (id text, request_id text, model text, state text, version text, error text)",
    )
    query(
        postgres_url,
        "INSERT INTO mesh.training_jobs"
        " VALUES ('job-1', 'retrain__reviews__1', 'reviews', 'SUCCEEDED', '3', '')",
    )
    (batch,) = await client.list_batches("reviews")
    assert (batch.training_id, batch.version) == ("job-1", "3")
    assert not batch.HasField("reloaded_at")  # left out because MLflow is away


async def test_limits_are_named(client: AsyncMeshClient) -> None:
    with pytest.raises(errors.InvalidArgument, match="limit"):
        await client.list_batches("reviews", limit=1_001)
    with pytest.raises(errors.InvalidArgument, match="not a model name"):
        await client.import_examples("Reviews", examples(1))
