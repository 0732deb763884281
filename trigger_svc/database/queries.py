"""SQL by name: these files of `sql` hold statements, each under a line `-- name: …`."""

import re
from importlib import resources
from typing import Any

from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

_FOLDER = resources.files("trigger_svc.database") / "sql"


def read(file: str) -> str:
    """Return the text of one file of the folder `sql`."""
    return (_FOLDER / file).read_text(encoding="utf-8")


def _split(text: str) -> dict[str, str]:
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))


QUERIES = _split("\n".join(map(read, ("batches.sql", "rows.sql", "tables.sql"))))
_MODEL_TABLE = read("training_table.sql")


def of_model(name: str, model: str, **identifiers: str) -> sql.Composed:
    """Return the query `name` with the training table of `model` in place of `{table}`.

    Other names in braces are replaced by `identifiers`.
    """
    quoted = {key: sql.Identifier(value) for key, value in identifiers.items()}
    return sql.SQL(QUERIES[name]).format(table=sql.Identifier(model), **quoted)


def model_table(model: str) -> sql.Composed:
    """Return the script that creates the training table of `model` and its triggers."""
    return sql.SQL(_MODEL_TABLE).format(table=sql.Identifier(model))


def one_row(cursor: Cursor) -> tuple[Any, ...]:
    """Return the next row of a result that must have one."""
    row = cursor.fetchone()
    assert row is not None
    return row
