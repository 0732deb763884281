"""The training tables of the models: which of them exist, and how one is made."""

from psycopg2.extensions import cursor as Cursor

from service_kit.errors import NotFound
from trigger_svc.database.queries import QUERIES, model_table, one_row

_TRIGGERS = 4  # in training_table.sql


def check_model_exists(cursor: Cursor, model: str) -> None:
    """Raise NotFound unless the model and its training table exist."""
    cursor.execute(QUERIES["has_model"], {"model": model})
    if one_row(cursor) == (False,):
        raise NotFound(f"no model {model!r}: import rows first: mesh import {model} FILE.csv")


def ensure_model_table(cursor: Cursor, model: str) -> bool:
    """Make the model's table and triggers unless they exist; return whether the table is new."""
    cursor.execute(QUERIES["create_model"], {"model": model})
    cursor.execute(QUERIES["has_table"], {"model": model})
    created = one_row(cursor) == (False,)
    cursor.execute(QUERIES["installed_triggers"], {"model": model})
    (triggers,) = one_row(cursor)
    if triggers < _TRIGGERS:
        # The script is not run otherwise: INSERTs would wait for the lock that it takes.
        cursor.execute(model_table(model))
    return created
