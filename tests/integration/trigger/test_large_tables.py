"""Many rows: how they are counted, and what one statement of them leaves."""

from collections.abc import AsyncIterator

import pytest

from mesh.client import AsyncMeshClient
from tests.real_parts.trigger_service import examples, query, running_trigger
from trigger_svc.batches import batch_sql
from trigger_svc.bridge.airflow_memory import MemoryAirflow
from trigger_svc.dataset import training_rows


@pytest.fixture
async def client(postgres_url: str) -> AsyncIterator[AsyncMeshClient]:
    """A client of a service that seals waiting rows on request only."""
    async with running_trigger(postgres_url, MemoryAirflow(), seal_quiet_ms=600_000) as running:
        yield running


async def test_a_large_table_is_estimated_and_says_so(
    client: AsyncMeshClient, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.import_examples("reviews", examples(50_000), no_train=True)
    query(postgres_url, "DELETE FROM training.reviews WHERE split = 'test' AND id %% 2 = 0")
    exact = await client.get_dataset("reviews")
    assert not exact.estimated
    monkeypatch.setattr(training_rows, "COUNTED_BYTES", 0)
    monkeypatch.setattr(training_rows, "SAMPLED_BLOCKS", 200)
    dataset = await client.get_dataset("reviews")
    assert dataset.estimated
    assert [item.label for item in dataset.labels] == ["a", "b"]
    assert dataset.rows.train == pytest.approx(exact.rows.train, rel=0.25)
    assert dataset.rows.test == pytest.approx(exact.rows.test, rel=0.25)


async def test_a_hundred_thousand_rows_are_one_outbox_row(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    answer = await client.import_examples("reviews", examples(100_000))
    assert answer.rows.train + answer.rows.test == 100_000
    assert query(postgres_url, "SELECT rows, statements, row_ids::text FROM mesh.batches") == [
        (80_000, 1, "{[1,100001)}")
    ]
    assert query(postgres_url, "SELECT count(*) FROM mesh.outbox") == [(0,)]


async def test_the_rows_between_two_far_ids_are_not_read(
    client: AsyncMeshClient, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_sql, "COUNTED_IDS", 100)
    await client.import_examples("reviews", examples(1_000), no_train=True)
    query(postgres_url, "UPDATE training.reviews SET split = 'train'")
    await client.trigger("reviews")
    query(postgres_url, "UPDATE training.reviews SET label = 'z' WHERE id IN (1, 1000)")
    assert (await client.get_dataset("reviews")).pending_rows == 2
    # Statements that lie far apart are counted, each in its own range.
    monkeypatch.setattr(batch_sql, "COUNTED_IDS", 10)
    assert (await client.trigger("reviews")).rows == 2
    query(postgres_url, "UPDATE training.reviews SET label = 'c' WHERE id = 1")
    query(postgres_url, "UPDATE training.reviews SET label = 'd' WHERE id = 1")
    query(postgres_url, "UPDATE training.reviews SET label = 'c' WHERE id = 1000")
    assert (await client.trigger("reviews")).rows == 2
    query(postgres_url, "INSERT INTO training.reviews (text, label) SELECT 'x', 'a'"
                        " FROM generate_series(1, 500)")  # fmt: skip
    query(postgres_url, "DELETE FROM training.reviews WHERE text = 'x'")
    assert (await client.trigger("reviews")).rows == 0
