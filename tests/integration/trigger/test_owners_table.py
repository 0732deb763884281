"""Training tables with owners' constraints, and owners' tables that the mesh takes over."""

from collections.abc import AsyncIterator

import pytest

from mesh import errors
from mesh.client import AsyncMeshClient
from mesh.v1 import data_pb2
from tests.real_parts.trigger_service import examples, query, running_trigger
from trigger_svc.bridge.airflow_memory import MemoryAirflow

Example = data_pb2.Example
TABLE = "ALTER TABLE training.reviews"
NEW = [Example(text="one", label="a"), Example(text="two", label="b")]
SECRET = "a row of somebody else"


@pytest.fixture
async def client(postgres_url: str) -> AsyncIterator[AsyncMeshClient]:
    """A client of a service with the model `reviews`, which has ten rows of labels a and b."""
    async with running_trigger(postgres_url, MemoryAirflow(), seal_quiet_ms=60_000) as running:
        await running.import_examples("reviews", examples(10), no_train=True)
        yield running


RAISE = """
    CREATE FUNCTION no_b() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.label = 'b' THEN RAISE EXCEPTION 'label b is closed'; END IF;
        RETURN {result};
    END $$;
    CREATE TRIGGER no_b {time} INSERT ON training.reviews FOR EACH ROW EXECUTE FUNCTION no_b()
"""


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (f"{TABLE} ADD CONSTRAINT only_a CHECK (label = 'a') NOT VALID", '"only_a"'),
        (
            "UPDATE training.reviews SET label = 'a';"
            f" {TABLE} ADD COLUMN letter text GENERATED ALWAYS AS (nullif(label, 'b')) STORED;"
            f" {TABLE} ALTER letter SET NOT NULL",
            'column "letter"',
        ),
        (f"{TABLE} ADD CONSTRAINT unlike EXCLUDE USING btree (text WITH =)", '"unlike"'),
        ("CREATE UNIQUE INDEX once ON training.reviews (md5(text))", '"once"'),
        (
            f"{TABLE} ADD CONSTRAINT late UNIQUE (text) DEFERRABLE INITIALLY DEFERRED",
            '"late"',
        ),
        (
            "CREATE TABLE labels (label text PRIMARY KEY); INSERT INTO labels VALUES ('a'), ('c');"
            f" UPDATE training.reviews SET label = 'a'; {TABLE} ADD CONSTRAINT known"
            " FOREIGN KEY (label) REFERENCES labels",
            '"known"',
        ),
        (
            "CREATE TYPE mood AS ENUM ('a', 'c'); UPDATE training.reviews SET label = 'a';"
            f" {TABLE} DROP CONSTRAINT label_has_at_most_128_characters,"
            " ALTER label TYPE mood USING label::mood",
            "enum mood",
        ),
        (
            "CREATE DOMAIN short AS text CONSTRAINT brief CHECK (length(VALUE) < 2);"
            f" UPDATE training.reviews SET label = 'a'; {TABLE} ALTER label TYPE short",
            '"brief"',
        ),
        (RAISE.format(time="BEFORE", result="NEW"), "label b is closed"),
        (RAISE.format(time="AFTER", result="NULL"), "label b is closed"),
    ],
    ids=[
        "check",
        "not null",
        "exclude",
        "unique",
        "deferred",
        "foreign key",
        "enum",
        "domain",
        "before",
        "after",
    ],
)
async def test_what_the_owner_refuses_is_told_with_the_row_and_shows_no_other_row(
    client: AsyncMeshClient, postgres_url: str, sql: str, why: str
) -> None:
    query(postgres_url, f"INSERT INTO training.reviews (text, label) VALUES ('{SECRET}', 'a')")
    query(postgres_url, sql)
    repeated = "UNIQUE" in sql or "EXCLUDE" in sql
    refused = Example(
        text=SECRET if repeated else "other", label="long" if "brief" in why else "b", split="train"
    )
    accepted = [Example(text=text, label="a", split="train") for text in ("fine", "fine too")]
    rows = [accepted[0], refused, accepted[1]]
    for call in (client.add_examples("reviews", rows), client.import_examples("reviews", rows)):
        with pytest.raises(errors.FailedPrecondition, match=r"examples\[1\]: ") as caught:
            await call
        assert why in str(caught.value)
        assert "nothing was added" in str(caught.value)
        assert SECRET not in str(caught.value)
    assert (await client.add_examples("reviews", accepted)).added == 2


async def test_an_exhausted_sequence_and_a_refused_right_are_told(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, f"{TABLE} ALTER id SET MAXVALUE 11")
    with pytest.raises(errors.FailedPrecondition, match=r"examples\[1\]: .*maximum value"):
        await client.add_examples("reviews", NEW)
    query(postgres_url, f"{TABLE} ALTER id SET MAXVALUE 1000000")
    query(postgres_url, f"{TABLE} DROP COLUMN split CASCADE")
    for call in (client.get_dataset("reviews"), client.add_examples("reviews", NEW)):
        with pytest.raises(errors.FailedPrecondition, match=r"training.reviews refuses .*split"):
            await call


async def test_a_label_by_sql_has_the_same_limit_as_one_over_the_api(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    insert = "INSERT INTO training.reviews (text, label) VALUES (%s, %s)"
    query(postgres_url, insert, "x", "b" * 128)
    with pytest.raises(Exception, match="label_has_at_most_128_characters"):
        query(postgres_url, insert, "x", "b" * 129)
    with pytest.raises(Exception, match="text_has_at_most_32768_characters"):
        query(postgres_url, insert, "x" * 32_769, "b")


OWN = (
    "CREATE TABLE training.own (id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,"
    " text text {null}, label text {null}, split text NOT NULL DEFAULT 'train',"
    " source text DEFAULT 'mine'{more})"
)


async def test_an_owners_table_with_empty_texts_is_refused_with_their_number(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, OWN.format(null="", more=""))
    query(postgres_url, "INSERT INTO training.own (text, label) VALUES (NULL, 'a'), ('x', NULL)")
    query(postgres_url, "INSERT INTO training.own (text, label) VALUES (NULL, 'b')")
    with pytest.raises(errors.FailedPrecondition) as caught:
        await client.import_examples("own", examples(10))
    for part in (
        "ALTER TABLE training.own ALTER COLUMN text SET NOT NULL",
        "2 rows have no text",
        "1 rows have no label",
    ):
        assert part in str(caught.value)
    assert query(postgres_url, "SELECT count(*) FROM mesh.models WHERE name = 'own'") == [(0,)]
    query(postgres_url, "DELETE FROM training.own WHERE text IS NULL OR label IS NULL")
    query(
        postgres_url, "ALTER TABLE training.own ALTER text SET NOT NULL, ALTER label SET NOT NULL"
    )
    assert not (await client.import_examples("own", examples(10))).created
    assert (await client.get_dataset("own")).rows.train == 8


@pytest.mark.parametrize(
    ("table", "why"),
    [
        ("CREATE TABLE training.own (body text)", "lacks the column label"),
        (OWN.format(null="NOT NULL", more="").replace("PRIMARY KEY", ""), "ADD PRIMARY KEY"),
        (
            OWN.format(null="NOT NULL", more="").replace("label text", "label integer"),
            "label of training.own is of type integer, not text",
        ),
        ("CREATE VIEW training.own AS SELECT 1 AS id, 'x' AS text", "is no table"),
    ],
)
async def test_an_owners_table_that_the_mesh_cannot_work_with_is_refused(
    client: AsyncMeshClient, postgres_url: str, table: str, why: str
) -> None:
    query(postgres_url, table)
    with pytest.raises(errors.FailedPrecondition, match="no training table of the mesh") as caught:
        await client.import_examples("own", examples(10))
    assert why in str(caught.value)


async def test_an_owners_column_that_needs_a_value_is_told(
    client: AsyncMeshClient, postgres_url: str
) -> None:
    query(postgres_url, OWN.format(null="NOT NULL", more=", customer bigint NOT NULL"))
    with pytest.raises(errors.FailedPrecondition, match=r'examples\[0\]: .*column "customer"'):
        await client.import_examples("own", examples(10))
