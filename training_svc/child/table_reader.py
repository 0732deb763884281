"""Reads the newest rows of a model as they were at one moment, no more than are needed."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
from psycopg2 import sql
from psycopg2.errors import QueryCanceled
from psycopg2.extensions import connection as Connection

from service_kit.database import Timeouts, connect, unavailable
from training_svc.child.frozen_rows import TEST, TRAIN, Row, freeze
from training_svc.child.row_checks import UnusableRows
from training_svc.jobs.folders import ROWS_FILE
from training_svc.learning.whole_files import write_whole

FETCH_ROWS = 10_000  # rows that PostgreSQL sends at a time
# The newest held-out rows that challenger and Champion are compared on.
MAX_HELD_OUT = 10_000
# Finding the newest held-out rows may take a look at every row of the table.
TIMEOUTS = Timeouts(statement_ms=300_000)
COUNT_TIMEOUT_MS = 5_000  # for the exact number of the rows that are left out

LEAST_ID = -(2**63)

LEFT_OUT_FILE = "left_out.txt"


def freeze_table(database_url: str, model: str, max_examples: int, folder: Path) -> None:
    """Write the newest `max_examples` training rows (0: all) and the newest MAX_HELD_OUT held-out
    rows of training.<model>, as of one moment, into ROWS_FILE, and into LEFT_OUT_FILE how many
    older training rows there are.

    Raises Unavailable when PostgreSQL is away or another session has locked the table,
    UnusableRows when the table does not exist.
    """
    try:
        with closing(connect(database_url, "training snapshot", TIMEOUTS)) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection:
                oldest = _oldest(connection, model, TRAIN, max_examples)
                left_out = _count_older(connection, model, oldest)
                write_whole(folder / LEFT_OUT_FILE, str(left_out))
                freeze(_rows(connection, model, oldest), folder / ROWS_FILE)
    except psycopg2.errors.UndefinedTable as error:
        raise UnusableRows(
            f"the training table of {model} is gone; import rows: mesh import {model} FILE.csv"
        ) from error
    except psycopg2.OperationalError as error:
        raise unavailable(error, f"reading the rows of {model}", TIMEOUTS) from error


def left_out(folder: Path) -> int:
    """The number of training rows that were not read; 0 for rows that an older release froze."""
    file = folder / LEFT_OUT_FILE
    return int(file.read_text()) if file.exists() else 0


def _rows(connection: Connection, model: str, oldest: int | None) -> Iterator[Row]:
    held_out = _oldest(connection, model, TEST, MAX_HELD_OUT)
    for split, first in ((TEST, held_out), (TRAIN, oldest)):
        # A named cursor lets PostgreSQL keep what was not fetched yet.
        with connection.cursor(f"rows_{split}") as cursor:
            cursor.itersize = FETCH_ROWS
            cursor.execute(
                _on(
                    "SELECT id, text::text, label::text, split FROM {}"
                    " WHERE split = %s AND id >= %s ORDER BY id",
                    model,
                ),
                (split, LEAST_ID if first is None else first),
            )
            for values in cursor:
                yield Row(*values)


def _oldest(connection: Connection, model: str, split: str, newest: int) -> int | None:
    """The id of the oldest of the `newest` rows of a split; None when all of them are wanted."""
    if not newest:
        return None
    with connection.cursor() as cursor:
        cursor.execute(
            _on("SELECT id FROM {} WHERE split = %s ORDER BY id DESC OFFSET %s LIMIT 1", model),
            (split, newest - 1),
        )
        row = cursor.fetchone()
    return None if row is None else int(row[0])


def _count_older(connection: Connection, model: str, oldest: int | None) -> int:
    """The number of training rows older than this one; in a very large table an estimate."""
    if oldest is None:
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT counting")
        cursor.execute("SET LOCAL statement_timeout = %s", (COUNT_TIMEOUT_MS,))
        try:
            cursor.execute(
                _on("SELECT count(*) FROM {} WHERE split = 'train' AND id < %s", model), (oldest,)
            )
        except QueryCanceled:
            cursor.execute("ROLLBACK TO SAVEPOINT counting")
            cursor.execute(
                "SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid ="
                " format('training.%%I', %s::text)::regclass",
                (model,),
            )
        row = cursor.fetchone()
        cursor.execute("SET LOCAL statement_timeout = %s", (TIMEOUTS.statement_ms,))
    return 0 if row is None else int(row[0])


def _on(query: str, model: str) -> sql.Composed:
    return sql.SQL(query).format(sql.Identifier("training", model))
