"""Reads the rows of a model as they were at one moment."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
from psycopg2 import sql

from service_kit.database import connect, unavailable
from training_svc.child.frozen_rows import Row
from training_svc.child.row_checks import UnusableRows

FETCH_ROWS = 10_000  # rows that PostgreSQL sends at a time


def read_rows(database_url: str, model: str) -> Iterator[Row]:
    """Yield every row of training.<model> in one snapshot, in order of their ids, as they come.

    Raises Unavailable when PostgreSQL is away or another session has locked the table,
    UnusableRows when the table does not exist.
    """
    query = sql.SQL("SELECT id, text, label, split FROM training.{} ORDER BY id").format(
        sql.Identifier(model)
    )
    try:
        with closing(connect(database_url, "training snapshot")) as connection:
            connection.set_session(isolation_level="REPEATABLE READ", readonly=True)
            with connection, connection.cursor("rows") as cursor:
                cursor.itersize = FETCH_ROWS
                cursor.execute(query)
                for values in cursor:
                    yield Row(*values)
    except psycopg2.errors.UndefinedTable as error:
        raise UnusableRows(
            f"the training table of {model} is gone; import rows: mesh import {model} FILE.csv"
        ) from error
    except psycopg2.OperationalError as error:
        raise unavailable(error, f"reading the rows of {model}") from error
