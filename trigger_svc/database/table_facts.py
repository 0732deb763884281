"""What the mesh needs of a training table, and what the catalog says about one."""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.extensions import cursor as Cursor

from trigger_svc.database.queries import QUERIES

TRIGGERS = 4  # in training_table.sql
_TABLE, _PARTITIONED = "r", "p"
_TEXTS = ("text", "character varying", "character")
_INTEGERS = ("bigint", "integer", "smallint")
_NAMES = (*_TEXTS, "enum")
_TYPES = {"id": _INTEGERS, "text": _TEXTS, "label": _NAMES, "split": _NAMES, "source": _TEXTS}
NOT_NULL = ("text", "label", "split")


@dataclass(frozen=True)
class TableFacts:
    """The table of one model; `kind` is None when there is none."""

    model: str
    kind: str | None
    columns: dict[str, tuple[str, bool]]
    """Of the columns that the mesh uses: the type below a domain, and whether it is NOT NULL."""
    has_index: bool
    """Whether an index begins with the column id."""
    triggers: int
    enabled: int
    """Triggers of the mesh that are not switched off."""

    def is_readable(self) -> bool:
        """Return whether its rows can be looked up by their ids."""
        ids = self.columns.get("id", ("", False))[0]
        return self.has_index and ids in _INTEGERS and "split" in self.columns

    def shape_problems(self) -> list[str]:
        """Return what the mesh cannot work with, as sentences that say what to do."""
        name = f"training.{self.model}"
        if self.kind not in (_TABLE, _PARTITIONED):
            return [f"{name} is no table (a view or a foreign table has no use here)"]
        missing = sorted(set(_TYPES) - set(self.columns))
        problems = [f"{name} lacks the column {column}" for column in missing]
        for column, (kind, not_null) in sorted(self.columns.items()):
            if kind not in _TYPES[column]:
                wanted = _TYPES[column][0]
                problems.append(f"column {column} of {name} is of type {kind}, not {wanted}")
            elif column in NOT_NULL and not not_null:
                problems.append(
                    f"column {column} of {name} may be NULL:"
                    f" ALTER TABLE {name} ALTER COLUMN {column} SET NOT NULL"
                )
        if "id" in self.columns and not self.has_index:
            problems.append(
                f"no index of {name} begins with its column id:"
                f" ALTER TABLE {name} ADD PRIMARY KEY (id)"
            )
        return problems

    def problems(self) -> list[str]:
        """Return why rows of this table do not get on, as sentences that say what to do."""
        if self.kind is None:
            return [
                f"its table training.{self.model} is gone: it was dropped, moved or renamed (the"
                " rows of a renamed table count for the model of its new name); import rows again,"
                f" or end the model: mesh remove {self.model}"
            ]
        problems = self.shape_problems()
        if self.triggers < TRIGGERS:
            problems.append(
                f"training.{self.model} has {self.triggers} of the {TRIGGERS} triggers of the mesh,"
                f" so that its new rows start no training: import a row to set them up again"
            )
        elif self.enabled < TRIGGERS:
            problems.append(
                f"triggers of training.{self.model} are switched off, so that its new rows start no"
                f" training: ALTER TABLE training.{self.model} ENABLE TRIGGER USER"
            )
        return problems


def facts_of(cursor: Cursor, models: Sequence[str]) -> list[TableFacts]:
    """Return the facts about the tables of these models."""
    cursor.execute(QUERIES["table_facts"], {"models": list(models)})
    return [
        TableFacts(
            model,
            kind,
            {name: (kind_of, not_null) for name, (kind_of, not_null) in (columns or {}).items()},
            has_index,
            installed,
            enabled,
        )
        for model, kind, columns, has_index, installed, enabled in cursor.fetchall()
    ]
