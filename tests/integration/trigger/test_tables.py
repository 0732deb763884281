"""The training table and its triggers, in a real PostgreSQL."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import pytest

from service_kit.database import Database, apply_schema
from tests.real_parts.trigger_service import query
from trigger_svc.database.queries import model_table
from trigger_svc.service import SCHEMA

INSERT = "INSERT INTO training.reviews (text, label) "


@pytest.fixture
async def url(postgres_url: str) -> str:
    """A database with the service's tables and a model `reviews`."""
    database = Database(postgres_url, "test")
    for _ in range(2):  # twice: it is idempotent
        await apply_schema(database, "trigger", *SCHEMA)
        await database.run(lambda cursor: cursor.execute(model_table("reviews")))
    await database.close()
    query(postgres_url, "INSERT INTO mesh.models (name) VALUES ('reviews')")
    return postgres_url


@pytest.fixture
def listener(url: str) -> Iterator[psycopg2.extensions.connection]:
    """A session that listens for wake-ups."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        connection.cursor().execute("LISTEN mesh_outbox")
        yield connection


def wakeups(listener: psycopg2.extensions.connection) -> int:
    listener.cursor().execute("SELECT 1")
    listener.poll()
    count = len(listener.notifies)
    listener.notifies.clear()
    return count


def outbox(url: str) -> list[tuple[object, ...]]:
    return query(
        url,
        "SELECT op, row_count, row_ids::text FROM mesh.outbox ORDER BY created_at",
    )


async def test_a_plain_insert_takes_the_defaults(url: str) -> None:
    query(url, INSERT + "VALUES ('fine', 'positive')")
    rows = query(url, "SELECT id, text, label, split, source FROM training.reviews")
    assert rows == [(1, "fine", "positive", "train", "sql")]


async def test_one_statement_is_one_outbox_row_that_names_its_rows(url: str) -> None:
    query(url, INSERT + "SELECT 'text ' || n, 'a' FROM generate_series(1, 25000) AS n")
    assert outbox(url) == [("INSERT", 25_000, "{[1,25001)}")]


async def test_rows_of_the_test_split_alone_are_no_reason_to_train(url: str) -> None:
    query(url, "INSERT INTO training.reviews (text, label, split) VALUES ('x', 'a', 'test')")
    assert outbox(url) == []
    query(
        url,
        "INSERT INTO training.reviews (text, label, split)"
        " VALUES ('x', 'a', 'train'), ('y', 'a', 'test'), ('z', 'a', 'train')",
    )
    assert outbox(url) == [("INSERT", 2, "{[2,5)}")]


async def test_a_statement_without_rows_leaves_no_entry(url: str) -> None:
    query(url, INSERT + "SELECT 'x', 'a' WHERE false")
    query(url, "UPDATE training.reviews SET label = 'b'")
    query(url, "DELETE FROM training.reviews")
    assert outbox(url) == []


async def test_an_update_counts_only_rows_whose_training_columns_changed(url: str) -> None:
    query(url, INSERT + "VALUES ('one', 'a'), ('two', 'a'), ('three', 'b')")
    query(url, "UPDATE training.reviews SET source = 'elsewhere'")
    query(url, "UPDATE training.reviews SET label = 'b'")
    query(url, "UPDATE training.reviews SET split = 'test' WHERE id = 3")
    assert outbox(url)[1:] == [("UPDATE", 2, "{[1,3)}")]


async def test_one_session_inserts_and_updates_in_turn(url: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection:
        for number in ("1", "2"):
            connection.cursor().execute(INSERT + "VALUES ('x', 'a')")
            update = "UPDATE training.reviews SET label = 'b' || %s WHERE id = %s"
            connection.cursor().execute(update, (number, number))
    assert outbox(url) == [
        ("INSERT", 1, "{[1,2)}"),
        ("UPDATE", 1, "{[1,2)}"),
        ("INSERT", 1, "{[2,3)}"),
        ("UPDATE", 1, "{[2,3)}"),
    ]


async def test_deleting_is_recorded_but_no_reason_to_train(url: str) -> None:
    query(url, INSERT + "VALUES ('one', 'a'), ('two', 'a')")
    query(url, "DELETE FROM training.reviews WHERE id = 1")
    query(url, "TRUNCATE training.reviews")
    assert len(outbox(url)) == 1
    removals = query(
        url, "SELECT op, row_count, row_ids::text FROM mesh.removals ORDER BY created_at"
    )
    assert removals == [("DELETE", 1, "{[1,2)}"), ("TRUNCATE", 0, "{}")]


async def test_a_statement_that_was_rolled_back_leaves_no_entry_and_no_wake_up(
    url: str, listener: psycopg2.extensions.connection
) -> None:
    with closing(psycopg2.connect(url)) as connection:
        connection.cursor().execute(INSERT + "VALUES ('x', 'a')")
        connection.rollback()
    assert outbox(url) == []
    assert wakeups(listener) == 0


async def test_an_insert_wakes_the_bridge_only_when_it_sleeps(
    url: str, listener: psycopg2.extensions.connection
) -> None:
    query(url, INSERT + "VALUES ('x', 'a')")
    assert wakeups(listener) == 1
    lock = "(hashtext('champion-mesh'), hashtext('bridge awake'))"
    listener.cursor().execute(f"SELECT pg_advisory_lock{lock}")
    query(url, INSERT + "VALUES ('x', 'a')")
    assert wakeups(listener) == 0
    listener.cursor().execute(f"SELECT pg_advisory_unlock{lock}")
    query(url, INSERT + "VALUES ('x', 'a')")
    assert wakeups(listener) == 1


async def test_an_insert_survives_a_broken_outbox_with_a_warning(url: str) -> None:
    query(url, "ALTER TABLE mesh.outbox RENAME TO elsewhere")
    with closing(psycopg2.connect(url)) as connection, connection:
        connection.cursor().execute(INSERT + "VALUES ('x', 'a')")
        assert "start no training" in connection.notices[-1]
    assert query(url, "SELECT count(*) FROM training.reviews") == [(1,)]


async def test_a_writer_needs_no_rights_on_the_meshs_own_tables(url: str) -> None:
    query(url, "DROP ROLE IF EXISTS mesh_test_writer")
    query(url, "CREATE ROLE mesh_test_writer")
    query(url, "GRANT USAGE ON SCHEMA training TO mesh_test_writer")
    query(url, "GRANT INSERT ON training.reviews TO mesh_test_writer")
    with closing(psycopg2.connect(url)) as connection, connection:
        # A search_path of the writer's own must not lead the triggers astray.
        connection.cursor().execute("SET ROLE mesh_test_writer; SET search_path = pg_temp")
        connection.cursor().execute(INSERT + "VALUES ('x', 'a')")
        assert connection.notices == []
    assert outbox(url) == [("INSERT", 1, "{[1,2)}")]
    query(url, "DROP OWNED BY mesh_test_writer; DROP ROLE mesh_test_writer")


async def test_a_writers_own_functions_do_not_run_with_the_triggers_rights(url: str) -> None:
    query(url, "DROP ROLE IF EXISTS mesh_test_writer; CREATE ROLE mesh_test_writer")
    query(url, "GRANT USAGE ON SCHEMA training TO mesh_test_writer")
    query(url, "GRANT SELECT, INSERT, UPDATE ON training.reviews TO mesh_test_writer")
    query(url, "CREATE SCHEMA own AUTHORIZATION mesh_test_writer; CREATE TABLE own.ran (who text)")
    query(url, "GRANT INSERT ON own.ran TO mesh_test_writer")
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("SET ROLE mesh_test_writer")
        # Everything that the triggers call, under the names that they call it by.
        for name, arguments, result in (
            ("hashtext", "text", "integer"),
            ("pg_try_advisory_xact_lock_shared", "integer, integer", "boolean"),
            ("pg_notify", "text, text", "integer"),
            ("int8range", "bigint, bigint, text", "int8range"),
            ("text_same", "text, text", "boolean"),
            ("id_same", "bigint, bigint", "boolean"),
            ("more", "bigint, integer", "boolean"),
        ):
            cursor.execute(
                f"CREATE FUNCTION own.{name}({arguments}) RETURNS {result} LANGUAGE sql"
                f" AS $$ INSERT INTO own.ran VALUES (current_user); SELECT NULL::{result} $$"
            )
        cursor.execute("CREATE OPERATOR own.= (FUNCTION = own.text_same, LEFTARG = text,"
                       " RIGHTARG = text)")  # fmt: skip
        cursor.execute("CREATE OPERATOR own.= (FUNCTION = own.id_same, LEFTARG = bigint,"
                       " RIGHTARG = bigint)")  # fmt: skip
        cursor.execute("CREATE OPERATOR own.> (FUNCTION = own.more, LEFTARG = bigint,"
                       " RIGHTARG = integer)")  # fmt: skip
        cursor.execute("SET search_path = own, pg_temp, pg_catalog")
        cursor.execute("CREATE TEMPORARY TABLE new_rows (id bigint, split text)")
        cursor.execute(INSERT + "VALUES ('x', 'a'), ('y', 'a')")
        cursor.execute("UPDATE training.reviews SET label = 'b'")
        assert connection.notices == []
    assert query(url, "SELECT who FROM own.ran") == []
    assert outbox(url) == [("INSERT", 2, "{[1,3)}"), ("UPDATE", 2, "{[1,3)}")]
    query(url, "DROP OWNED BY mesh_test_writer CASCADE; DROP ROLE mesh_test_writer")


async def test_two_models_do_not_mix(url: str) -> None:
    database = Database(url, "test")
    await database.run(lambda cursor: cursor.execute(model_table("order")))
    await database.close()
    query(url, INSERT + "VALUES ('x', 'a')")
    query(url, 'INSERT INTO training."order" (text, label) VALUES (%s, %s)', "x", "a")
    assert query(url, "SELECT model FROM mesh.outbox ORDER BY created_at") == [
        ("reviews",),
        ("order",),
    ]


async def test_an_unknown_split_is_refused(url: str) -> None:
    with pytest.raises(psycopg2.errors.CheckViolation):
        query(url, "INSERT INTO training.reviews (text, label, split) VALUES ('x', 'a', 'dev')")


async def test_a_database_of_an_earlier_release_is_brought_up_to_date(url: str) -> None:
    query(url, "DELETE FROM mesh.schema_versions")
    for table, columns in (
        ("outbox", ("table_id",)),
        ("batches", ("key",)),
        ("models", ("looked_to", "covered", "unbatched_rows")),
    ):
        for column in columns:
            query(url, f"ALTER TABLE mesh.{table} DROP COLUMN {column}")
    query(url, "DROP TABLE mesh.troubles, mesh.forgotten_models")
    query(
        url,
        "CREATE OR REPLACE TRIGGER mesh_after_insert AFTER INSERT ON training.reviews"
        " REFERENCING NEW TABLE AS new_rows"
        " FOR EACH STATEMENT EXECUTE FUNCTION mesh.after_write('reviews')",
    )
    query(
        url,
        "INSERT INTO mesh.outbox (model, op, row_count, row_ids)"
        " VALUES ('reviews', 'INSERT', 1, '{[1,2)}')",
    )
    database = Database(url, "test")
    for _ in range(2):
        await apply_schema(database, "trigger", *SCHEMA)
    await database.close()
    query(url, INSERT + "VALUES ('x', 'a')")
    assert outbox(url) == [("INSERT", 1, "{[1,2)}")] * 2
    assert query(url, "SELECT name, unbatched_rows FROM mesh.models") == [("reviews", 0)]
