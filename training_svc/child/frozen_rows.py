"""The rows of one job, frozen in a file: every attempt of the job reads the same rows."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import astuple, dataclass
from pathlib import Path

from training_svc.learning.whole_files import whole_file

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Row:
    """One row of a training table."""

    id: int
    text: str
    label: str
    split: str  # TRAIN or TEST


def freeze(rows: Iterable[Row], path: Path) -> None:
    """Write the rows to a file as they come; the file appears only when it is complete.

    Each line is the JSON array [id, text, label, split] of one row.
    """
    with whole_file(path) as file:
        file.writelines(map(_line, rows))


def thaw(path: Path) -> tuple[list[Row], str]:
    """Read the rows of a file back; return them with the SHA-256 of the file, hexadecimal."""
    rows: list[Row] = []
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for line in file:
            digest.update(line)
            rows.append(Row(*json.loads(line)))
    return rows, digest.hexdigest()


def _line(row: Row) -> bytes:
    return json.dumps(astuple(row), ensure_ascii=False).encode() + b"\n"
