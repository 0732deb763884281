"""Time limits of statements and locks, and retries, on a real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from urllib.parse import urlsplit

import psycopg2
import pytest
from psycopg2.extensions import cursor as Cursor

from service_kit.database import (
    DEFAULT_TIMEOUTS,
    RETRY_AFTER_TIMEOUT_S,
    Database,
    Timeouts,
    connect,
    until_available,
)
from service_kit.errors import MeshError, Unavailable
from tests.real_parts.postgres import execute

NOWHERE = "postgresql://127.0.0.1:1/none"
SHORT = Timeouts(statement_ms=150, lock_ms=50)


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    made = Database(postgres_url, "test", threads=1)
    yield made
    await made.close()


def sleep_long(cursor: Cursor) -> None:
    cursor.execute("SELECT pg_sleep(60)")


def backend(cursor: Cursor) -> int:
    cursor.execute("SELECT pg_backend_pid()")
    return int(cursor.fetchall()[0][0])


def limits(cursor: Cursor) -> tuple[str, str]:
    cursor.execute("SELECT current_setting('statement_timeout'), current_setting('lock_timeout')")
    statement, lock = cursor.fetchall()[0]
    return statement, lock


async def test_every_connection_has_limits_that_its_url_cannot_lift(postgres_url: str) -> None:
    url = f"{postgres_url}?options=-c%20statement_timeout%3D0%20-c%20work_mem%3D5MB"
    with closing(connect(url, "test")) as connection, connection.cursor() as cursor:
        statement, lock = limits(cursor)
        assert (statement, lock) == ("30s", "10s")
        assert Timeouts(statement_ms=30_000, lock_ms=10_000) == DEFAULT_TIMEOUTS
        cursor.execute("SHOW work_mem")
        assert cursor.fetchone() == ("5MB",)


async def test_limits_of_one_transaction_end_with_it(database: Database) -> None:
    longer = Timeouts(statement_ms=3_600_000, lock_ms=60_000)
    assert await database.run(limits, timeouts=longer) == ("1h", "1min")
    assert await database.run(limits) == ("30s", "10s")


async def test_a_statement_beyond_its_limit_is_unavailable_and_its_connection_stays(
    database: Database,
) -> None:
    before = await database.run(backend)
    with pytest.raises(Unavailable) as caught:
        await database.run(sleep_long, "counting sheep", SHORT)
    message = str(caught.value)
    assert message.startswith("PostgreSQL broke off counting sheep (canceling statement")
    assert "may take 0.15 s" in message
    assert "nothing was changed, so try again in 5 s" in message
    assert caught.value.retry_after_s == RETRY_AFTER_TIMEOUT_S
    assert await database.run(backend) == before


async def test_a_lock_beyond_its_limit_is_unavailable_and_nothing_was_written(
    postgres_url: str, database: Database
) -> None:
    def create(cursor: Cursor) -> None:
        cursor.execute("CREATE TABLE free (n integer); CREATE TABLE locked (n integer)")

    def write_both(cursor: Cursor) -> None:
        cursor.execute("INSERT INTO free VALUES (1)")
        cursor.execute("INSERT INTO locked VALUES (1)")

    def written(cursor: Cursor) -> int:
        cursor.execute("SELECT count(*) FROM free")
        return int(cursor.fetchall()[0][0])

    await database.run(create)
    with closing(psycopg2.connect(postgres_url)) as other:
        other.cursor().execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match=r"writing both .*waited 0.05 s for a lock"):
            await database.run(write_both, "writing both", SHORT)
    assert await database.run(written) == 0


async def test_work_begins_again_on_a_new_connection_when_the_idle_one_has_died(
    postgres_url: str, database: Database
) -> None:
    died = await database.run(backend)
    with closing(psycopg2.connect(postgres_url)) as other, other, other.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 10000)", (died,))
        assert cursor.fetchone() == (True,)
    assert await database.run(backend) != died


async def test_a_server_that_is_away_is_unavailable() -> None:
    database = Database(NOWHERE, "test", threads=1)
    with pytest.raises(Unavailable, match="PostgreSQL is away: connection to server"):
        await database.run(backend)
    await database.close()


async def test_an_attempt_is_repeated_while_its_part_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = [Unavailable("first"), Unavailable("second")]

    async def attempt() -> str:
        if failures:
            raise failures.pop(0)
        return "done"

    assert await until_available(attempt, "the part", pause_s=0.001) == "done"
    [record] = caplog.records
    logged = vars(record)
    assert (logged["message"], logged["what"], logged["why"]) == ("waiting", "the part", "first")


async def test_another_error_of_an_attempt_is_raised_at_once() -> None:
    async def attempt() -> None:
        raise MeshError("a defect")

    with pytest.raises(MeshError, match="a defect"):
        await until_available(attempt, "the part")


async def test_waiting_for_a_part_can_be_cancelled() -> None:
    attempted = asyncio.Event()

    async def attempt() -> None:
        attempted.set()
        raise Unavailable("away")

    waiting = asyncio.create_task(until_available(attempt, "the part", pause_s=60.0))
    await attempted.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("53100", "PostgreSQL's disk is full"),
        ("53200", "PostgreSQL is out of memory"),
        ("53300", "PostgreSQL has no connection left"),
        ("25006", "PostgreSQL takes no writes"),
        ("57P03", "PostgreSQL is starting, stopping or recovering"),
    ],
)
async def test_troubles_of_the_server_are_called_by_their_names(
    database: Database, code: str, text: str
) -> None:
    def fail(cursor: Cursor) -> None:
        cursor.execute(f"DO $$ BEGIN RAISE EXCEPTION 'why' USING ERRCODE = '{code}'; END $$")

    with pytest.raises(Unavailable, match=rf"{text}.*\(why\)"):
        await database.run(fail)
    assert await database.run(backend)


async def test_an_error_of_the_statement_itself_is_no_outage(database: Database) -> None:
    def exceed(cursor: Cursor) -> None:
        cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'too long' USING ERRCODE = '54000'; END $$")

    with pytest.raises(psycopg2.OperationalError, match="too long"):
        await database.run(exceed)


async def test_a_server_without_free_connections_says_so(
    postgres_url: str, postgres_server: str
) -> None:
    execute(postgres_server, "CREATE ROLE mesh_test_few LOGIN PASSWORD 'few' CONNECTION LIMIT 0")
    parts = urlsplit(postgres_url)
    url = parts._replace(netloc=f"mesh_test_few:few@{parts.hostname}:{parts.port}").geturl()
    made = Database(url, "test", threads=1)
    try:
        with pytest.raises(Unavailable, match="PostgreSQL has no connection left"):
            await made.run(backend)
    finally:
        await made.close()
        execute(postgres_server, "DROP ROLE mesh_test_few")


async def test_the_statement_of_a_caller_who_left_is_cancelled_and_hits_no_other_call(
    postgres_url: str,
) -> None:
    made = Database(postgres_url, "test", threads=1, cancels=True)
    for _ in range(5):
        sleeping = asyncio.create_task(made.run(sleep_long))
        waiting = asyncio.create_task(made.run(sleep_long))
        await until_active(postgres_url)
        waiting.cancel()
        sleeping.cancel()
        async with asyncio.timeout(20):
            assert await made.run(backend)
        await asyncio.gather(sleeping, waiting, return_exceptions=True)
    await made.close()


async def until_active(url: str) -> None:
    """Wait until a statement sleeps in the database."""

    def sleeps() -> bool:
        with closing(connect(url, "watch")) as connection, connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE wait_event = 'PgSleep' AND datname = current_database()"
            )
            return cursor.fetchone() == (1,)

    async with asyncio.timeout(20):
        while not await asyncio.to_thread(sleeps):
            await asyncio.sleep(0.02)
