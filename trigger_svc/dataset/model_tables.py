"""The training tables of the models: which of them exist, how one is made, and how one ends."""

from psycopg2.extensions import cursor as Cursor

from service_kit.errors import FailedPrecondition, NotFound
from trigger_svc.database.queries import QUERIES, model_table, of_model, one_row
from trigger_svc.database.table_facts import NOT_NULL, TRIGGERS, TableFacts, facts_of


def check_model_exists(cursor: Cursor, model: str) -> None:
    """Raise NotFound unless the model and its training table exist."""
    cursor.execute(QUERIES["has_model"], {"model": model})
    if one_row(cursor) == (False,):
        raise NotFound(f"no model {model!r}: import rows first: mesh import {model} FILE.csv")


def check_model_is_known(cursor: Cursor, model: str) -> None:
    """Raise NotFound unless the model exists, with or without its training table."""
    cursor.execute(QUERIES["is_registered"], {"model": model})
    if one_row(cursor) == (False,):
        check_model_exists(cursor, model)


def ensure_model_table(cursor: Cursor, model: str) -> bool:
    """Make the model's table and triggers unless they exist; return whether the table is new.

    A table that exists already and has no triggers of the mesh is its owner's, and is taken as it
    is. Raises FailedPrecondition when the mesh cannot work with it.
    """
    cursor.execute(QUERIES["create_model"], {"model": model})
    (facts,) = facts_of(cursor, [model])
    if facts.triggers < TRIGGERS:
        if facts.kind is not None:
            _check_shape(cursor, facts)
        # The script is not run otherwise: INSERTs would wait for the lock that it takes.
        cursor.execute(model_table(model))
        if facts.kind is None:
            cursor.execute(of_model("mark_made", model))
    cursor.execute(of_model("begin_to_look", model), {"model": model})
    return facts.kind is None


def forget_model(cursor: Cursor, model: str, with_rows: bool) -> tuple[bool, bool]:
    """End the model; return whether it was known, and whether its table was dropped.

    Raises FailedPrecondition when a table that the mesh has not made is to be dropped.
    """
    # Sealing and importing hold this row, so that neither is at work meanwhile.
    cursor.execute(QUERIES["lock_model"], {"model": model})
    known = cursor.fetchone() is not None
    (facts,) = facts_of(cursor, [model])
    is_table = facts.kind in ("r", "p")
    known = known or bool(facts.triggers)
    dropped = with_rows and known and is_table
    if dropped:
        cursor.execute(QUERIES["is_made_by_mesh"], {"model": model})
        if one_row(cursor) == (False,):
            raise FailedPrecondition(
                f"training.{model} was not made by the mesh, so the mesh does not drop it: remove"
                " the model without its rows, and drop the table yourself"
            )
        cursor.execute(of_model("drop_table", model))
    elif facts.triggers:
        cursor.execute(of_model("drop_triggers", model))
    cursor.execute(QUERIES["forget_model"], {"model": model})
    return known, dropped


def _check_shape(cursor: Cursor, facts: TableFacts) -> None:
    problems = facts.shape_problems()
    if not problems:
        return
    empty = [
        f"{count:,}{' or more' if count == 10_000 else ''} rows have no {column}"
        for column in NOT_NULL
        if facts.kind in ("r", "p")
        and facts.columns.get(column, ("", True))[1] is False
        and (count := _count_null(cursor, facts.model, column))
    ]
    raise FailedPrecondition(
        f"training.{facts.model} exists, but it is no training table of the mesh yet: "
        + "; ".join(problems + empty)
    )


def _count_null(cursor: Cursor, model: str, column: str) -> int:
    cursor.execute(of_model("count_null", model, column=column))
    return int(one_row(cursor)[0])
