"""What the bridge finds out about training tables by looking at them, on a real PostgreSQL."""

from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import psycopg2
import pytest

from mesh.client import AsyncMeshClient
from tests.real_parts.postgres import SETTINGS, running_postgres
from tests.real_parts.trigger_service import examples, query, running_trigger, until
from trigger_svc.bridge import bridge
from trigger_svc.bridge.airflow_memory import MemoryAirflow

REPLICATED = (
    "SET session_replication_role = replica; INSERT INTO training.reviews (text, label, split)"
    " SELECT 'replicated ' || n, 'a', CASE WHEN n > 7 THEN 'test' ELSE 'train' END"
    " FROM generate_series(1, 9) AS n"
)
WAITS_LONG = {"seal_quiet_ms": 600_000, "seal_age_ms": 600_000}


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "WATCH_S", 0.2)


@pytest.fixture
async def client(postgres_url: str, airflow: MemoryAirflow) -> AsyncIterator[AsyncMeshClient]:
    """A client of a service with the model `reviews`; waiting rows are sealed on request only."""
    async with running_trigger(postgres_url, airflow, **WAITS_LONG) as running:
        await running.import_examples("reviews", examples(10), no_train=True)
        yield running


async def until_told(client: AsyncMeshClient, model: str, text: str) -> None:
    """Wait until a trouble of this model says `text`; until it has none when `text` is empty."""

    async def told() -> bool:
        messages = [t.message for t in (await client.list_batches_page(model)).troubles]
        return any(text in message for message in messages) if text else not messages

    await until(told)


async def test_rows_that_came_past_the_triggers_are_found_and_trained_on_request(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('usual', 'a')")
    query(postgres_url, REPLICATED)
    query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('usual', 'a')")
    await until_told(client, "reviews", "7 rows of training.reviews are in no batch")
    dataset = await client.get_dataset("reviews")
    assert (dataset.pending_rows, dataset.unbatched_rows) == (2, 7)
    assert (await client.trigger("reviews")).rows == 9
    await until_told(client, "reviews", "")
    assert (await client.get_dataset("reviews")).unbatched_rows == 0


async def test_rows_that_came_through_the_triggers_or_with_no_train_are_not_reported(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    await client.import_examples("reviews", examples(20, prefix="more"), no_train=True)
    await client.add_examples("reviews", examples(5, prefix="api"))
    await client.trigger("reviews")
    query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('usual', 'a')")
    with closing(psycopg2.connect(postgres_url)) as connection:
        connection.cursor().execute("INSERT INTO training.reviews (text, label) VALUES ('x', 'a')")
        connection.rollback()
    query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('usual', 'a')")
    highest = query(postgres_url, "SELECT max(id) FROM training.reviews")[0][0]

    async def looked() -> bool:
        return query(postgres_url, "SELECT looked_to, covered::text FROM mesh.models") == [
            (highest + 1, "{}")
        ]

    await until(looked)
    dataset = await client.get_dataset("reviews")
    assert (dataset.pending_rows, dataset.unbatched_rows) == (2, 0)


async def test_rows_written_straight_into_a_partition_are_found(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(
        postgres_url,
        "CREATE TABLE training.parted (id bigserial, text text NOT NULL, label text NOT NULL,"
        " split text NOT NULL DEFAULT 'train', source text, PRIMARY KEY (id, label))"
        " PARTITION BY LIST (label)",
    )
    query(postgres_url, "CREATE TABLE a PARTITION OF training.parted FOR VALUES IN ('a')")
    query(postgres_url, "CREATE TABLE b PARTITION OF training.parted FOR VALUES IN ('b')")
    await client.import_examples("parted", examples(10), no_train=True)
    assert (await client.get_dataset("parted")).rows.train == 8
    query(postgres_url, "INSERT INTO a (text, label) VALUES ('straight', 'a'), ('in', 'a')")
    await until_told(client, "parted", "2 rows of training.parted are in no batch")


async def test_the_rows_of_a_renamed_table_are_those_of_the_model_of_its_new_name(
    client: AsyncMeshClient, airflow: MemoryAirflow, postgres_url: str
) -> None:
    query(postgres_url, "INSERT INTO training.reviews (text, label) VALUES ('before', 'a')")
    query(postgres_url, "ALTER TABLE training.reviews RENAME TO opinions")
    query(postgres_url, "INSERT INTO training.opinions (text, label) VALUES ('after', 'a')")
    assert query(postgres_url, "SELECT model FROM mesh.outbox ORDER BY created_at") == [
        ("reviews",),
        ("opinions",),
    ]
    await until_told(client, "reviews", "training.reviews is gone")
    # What came before goes to the new model when the old one's rows are sealed.
    query(postgres_url, "UPDATE mesh.models SET seal_quiet_ms = 0 WHERE name = 'reviews'")

    async def followed() -> bool:
        entries = query(postgres_url, "SELECT DISTINCT model FROM mesh.outbox")
        return entries == [("opinions",)]

    await until(followed)
    assert (await client.get_dataset("opinions")).pending_rows == 2
    query(postgres_url, "UPDATE mesh.models SET seal_quiet_ms = 0 WHERE name = 'opinions'")

    async def posted() -> bool:
        return "retrain__opinions__1" in airflow.runs

    await until(posted)
    assert airflow.runs["retrain__opinions__1"].conf["rows"] == 2
    assert "retrain__reviews__1" not in airflow.runs


async def test_triggers_that_were_switched_off_or_dropped_are_told(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, "ALTER TABLE training.reviews DISABLE TRIGGER USER")
    await until_told(client, "reviews", "ENABLE TRIGGER USER")
    query(postgres_url, "ALTER TABLE training.reviews ENABLE TRIGGER USER")
    await until_told(client, "reviews", "")
    query(postgres_url, "DROP TRIGGER mesh_after_insert ON training.reviews")
    await until_told(client, "reviews", "has 3 of the 4 triggers")
    await client.import_examples("reviews", examples(1, prefix="one"), no_train=True)
    await until_told(client, "reviews", "")


async def test_a_table_that_was_changed_so_that_rows_do_not_fit_is_told(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, "ALTER TABLE training.reviews ALTER text DROP NOT NULL")
    await until_told(client, "reviews", "column text of training.reviews may be NULL")


async def test_a_prepared_transaction_works_and_its_rows_start_a_run(tmp_path: Path) -> None:
    airflow = MemoryAirflow()
    with running_postgres(tmp_path, settings=SETTINGS | {"max_prepared_transactions": "4"}) as url:
        async with running_trigger(url, airflow) as client:
            await client.import_examples("reviews", examples(10), no_train=True)
            with closing(psycopg2.connect(url)) as connection:
                connection.autocommit = True
                cursor = connection.cursor()
                cursor.execute("BEGIN")
                cursor.execute("INSERT INTO training.reviews (text, label) VALUES ('new', 'a')")
                cursor.execute("PREPARE TRANSACTION 'ours'")
                assert connection.notices == []
                cursor.execute("COMMIT PREPARED 'ours'")

            async def posted() -> bool:
                return "retrain__reviews__1" in airflow.runs

            await until(posted)
