"""Rows on their way into a training table: staged in a temporary one, checked, and inserted.

The training table may be its owner's, with constraints and triggers that the mesh knows nothing
of. What they refuse is told to the caller, with the row as far as PostgreSQL shows it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor as Cursor

from service_kit.database_errors import is_outage
from service_kit.errors import FailedPrecondition, InvalidArgument
from trigger_svc.database.queries import QUERIES, of_model, one_row
from trigger_svc.dataset.examples import Example, Spool

# A row that is refused at the end of the statement only, for example by a foreign key, is searched
# for by inserting parts of the rows again, if there are no more than these.
SEARCHED_ROWS = 10_000
_SHOWN_CHARACTERS = 300
_SEQUENCE_ENDED = "2200H"  # sequences are not set back, so inserting again tells nothing


@dataclass(frozen=True)
class SplitCounts:
    """Numbers of rows by split."""

    train: int
    test: int


@contextmanager
def told_errors(model: str) -> Iterator[None]:
    """Raise FailedPrecondition where a statement, or the COMMIT, does not fit the model's table."""
    try:
        yield
    except psycopg2.Error as error:
        if is_outage(error):
            raise
        raise FailedPrecondition(f"training.{model} refuses this: {_reason(error)}") from error


def stage_examples(cursor: Cursor, examples: list[Example]) -> None:
    """Stage rows; those without a split are trained on."""
    cursor.execute(QUERIES["create_staged"])
    columns = {
        "texts": [example.text for example in examples],
        "labels": [example.label for example in examples],
        "splits": [example.split for example in examples],
    }
    cursor.execute(QUERIES["fill_staged"], columns)
    cursor.execute(QUERIES["default_split"])


def stage_spool(cursor: Cursor, model: str, spool: Spool) -> None:
    """Stage rows; when none of them names a split, some are held out."""
    cursor.execute(QUERIES["create_staged"])
    cursor.copy_expert(QUERIES["copy_staged"], spool.rewound())
    cursor.execute(QUERIES["staged_names_split"])
    if one_row(cursor) == (True,):
        cursor.execute(QUERIES["default_split"])
    else:
        cursor.execute(of_model("hold_out", model))


def insert_staged(cursor: Cursor, model: str, source: str) -> tuple[SplitCounts, str]:
    """Insert the staged rows; return their counts by split and the range of their ids.

    Raises InvalidArgument for a label that is only held out, FailedPrecondition when the table
    refuses a row.
    """
    cursor.execute(of_model("untrained_label", model))
    row = cursor.fetchone()
    if row is not None:
        raise InvalidArgument(
            f"examples[{row[0]}].label",
            f"{row[1]!r} is in the test split, but no row to train on has it",
        )
    cursor.execute(QUERIES["count_staged"])
    total = int(one_row(cursor)[0])
    insert = _insert_query(cursor, model)
    cursor.execute(QUERIES["make_counter"])
    cursor.execute("SAVEPOINT before_rows")
    try:
        train, test, ids = _insert(cursor, insert, source, total)
    except psycopg2.Error as error:
        if is_outage(error):
            raise
        index = _refused_index(cursor, insert, source, total, error)
        place = "the rows" if index is None else f"examples[{index}]"
        raise FailedPrecondition(
            f"training.{model} refuses {place}: {_reason(error)}; nothing was added"
        ) from error
    cursor.execute(QUERIES["drop_counter"])
    return SplitCounts(train, test), ids


def _insert_query(cursor: Cursor, model: str) -> sql.Composed:
    cursor.execute(QUERIES["column_types"], {"model": model})
    # PostgreSQL itself wrote these types, quoted as SQL wants them.
    types = {name: sql.SQL(kind) for name, kind in cursor.fetchall()}
    query = sql.SQL(QUERIES["insert_staged"])
    return query.format(table=sql.Identifier(model), **types)


def _insert(cursor: Cursor, insert: sql.Composed, source: str, end: int) -> tuple[int, int, str]:
    cursor.execute(insert, {"source": source, "end": end})
    train, test, ids = one_row(cursor)
    # Constraints that wait for the end of the transaction would fail at COMMIT, too late to tell.
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    return train, test, ids


def _refused_index(
    cursor: Cursor, insert: sql.Composed, source: str, total: int, error: psycopg2.Error
) -> int | None:
    """Return the index of the first row that the table refuses; None when that cannot be told."""
    cursor.execute("ROLLBACK TO SAVEPOINT before_rows")
    cursor.execute(QUERIES["rows_begun"])
    begun = int(one_row(cursor)[0])
    if begun < total or error.pgcode == _SEQUENCE_ENDED:
        # PostgreSQL was at this row; at none when a trigger refused the statement as a whole.
        return begun - 1 if begun else None
    if total > SEARCHED_ROWS:
        return None
    accepted, refused = 0, total
    while refused - accepted > 1:
        middle = (accepted + refused) // 2
        try:
            _insert(cursor, insert, source, middle)
            accepted = middle
        except psycopg2.Error as error:
            if is_outage(error):
                raise
            refused = middle
        cursor.execute("ROLLBACK TO SAVEPOINT before_rows")
    return refused - 1


def _reason(error: psycopg2.Error) -> str:
    """Return PostgreSQL's message without its detail, which may show other rows' contents."""
    text = error.diag.message_primary or type(error).__name__
    constraint = error.diag.constraint_name
    column = error.diag.column_name
    if constraint and constraint not in text:
        text += f' (constraint "{constraint}")'
    elif column and column not in text:
        text += f' (column "{column}")'
    return text[:_SHOWN_CHARACTERS]
