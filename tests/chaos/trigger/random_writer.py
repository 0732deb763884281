"""A user's session that writes training rows at random, and keeps a ledger of what it committed."""

import io
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import psycopg2
from psycopg2.extensions import cursor as Cursor

from tests.chaos.trigger.tables import MODELS


@dataclass
class Ledger:
    """What the writer has committed, the truth that the batches are compared with."""

    statements: int = 0
    """Committed statements for each of which the outbox gets an entry."""
    rows: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many committed statements wrote the row, by model and id."""
    named: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How many outbox entries may name the row: they wrote it, or rows on both sides of it."""
    deletable: list[tuple[str, int]] = field(default_factory=list)
    """Rows that the writer may delete. It never deletes the first row of a statement: when all rows
    of a batch are deleted before it is sealed, no batch is made, and nothing could be compared."""
    deleted: set[tuple[str, int]] = field(default_factory=set)


def write(url: str, dice: random.Random, ledger: Ledger, pauses: Iterator[float]) -> None:
    """Commit statements of every kind, and roll some back."""
    with closing(psycopg2.connect(url)) as connection:
        for pause in pauses:
            model = dice.choice(MODELS)
            with connection.cursor() as cursor:
                wrote, deleted = _statement(cursor, dice, model, ledger)
                cursor.execute("SELECT pg_sleep(%s)", (pause,))  # may outlast a seal
            if dice.random() < 0.15:
                connection.rollback()
                continue
            connection.commit()
            ledger.statements += bool(wrote)
            ledger.rows.update((model, row) for row in wrote)
            between = range(min(wrote), max(wrote) + 1) if wrote else ()
            ledger.named.update((model, row) for row in between)
            ledger.deletable += [(model, row) for row in wrote[1:]]
            ledger.deleted.update((model, row) for row in deleted)


def _statement(
    cursor: Cursor, dice: random.Random, model: str, ledger: Ledger
) -> tuple[list[int], list[int]]:
    """Run one statement; return the ids that it wrote, the one to stay first, and those deleted."""
    kind = dice.choice(("insert", "insert", "insert", "many", "copy", "update", "delete"))
    rows = [row for name, row in ledger.rows if name == model and (name, row) not in ledger.deleted]
    if kind == "update" and rows:
        stays = [row for row in rows if (model, row) not in ledger.deletable]
        chosen = [dice.choice(stays), *dice.sample(rows, dice.randint(0, min(5, len(rows))))]
        cursor.execute(
            f"UPDATE training.{model} SET text = text || '.' WHERE id = ANY(%s)", (chosen,)
        )
        # The first row was never deletable, so it stays; of the others some may be deleted.
        return list(dict.fromkeys(chosen)), []
    deletable = [
        row for name, row in ledger.deletable if name == model and (name, row) not in ledger.deleted
    ]
    if kind == "delete" and deletable:
        chosen = dice.sample(deletable, dice.randint(1, min(3, len(deletable))))
        cursor.execute(f"DELETE FROM training.{model} WHERE id = ANY(%s)", (chosen,))
        return [], chosen
    if kind == "copy":
        lines = io.StringIO("".join(f"copied {n}\ta\n" for n in range(dice.choice((5, 40)))))
        cursor.copy_expert(f"COPY training.{model} (text, label) FROM STDIN", lines)
        cursor.execute(
            f"SELECT id FROM training.{model} WHERE xmin = pg_current_xact_id()::xid ORDER BY id"
        )
        return [row[0] for row in cursor.fetchall()], []
    count = dice.choice((5, 40)) if kind == "many" else 1
    cursor.execute(
        f"INSERT INTO training.{model} (text, label)"
        " SELECT 'text ' || n, 'a' FROM generate_series(1, %s) AS n RETURNING id",
        (count,),
    )
    return [row[0] for row in cursor.fetchall()], []
