"""The rows of one job, frozen in a file: every attempt of the job reads the same rows.

The file is mapped into memory and a row is read when it is needed, so millions of rows take no
more memory than their places in the file do.
"""

import hashlib
import json
import mmap
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import overload

from training_svc.learning.whole_files import whole_file

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Row:
    """One row of a training table. A user's own table may hold NULL (None)."""

    id: int
    text: str | None
    label: str | None
    split: str  # TRAIN or TEST


def freeze(rows: Iterable[Row], path: Path) -> None:
    """Write the rows to a file as they come; the file appears only when it is complete.

    Each line is the JSON array [id, text, label, split] of one row.
    """
    with whole_file(path) as file:
        file.writelines(map(_line, rows))


class FrozenRows(Sequence[Row]):
    """The rows of a file, in its order."""

    def __init__(self, path: Path) -> None:
        self._starts = array("Q")
        digest = hashlib.sha256()
        end = 0
        with path.open("rb") as file:
            for line in file:
                digest.update(line)
                self._starts.append(end)
                end += len(line)
            self._starts.append(end)
            # An empty file cannot be mapped.
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if end else b""
        self.digest = digest.hexdigest()
        """SHA-256 of the file, hexadecimal."""

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return Row(*json.loads(self._map[self._starts[index] : self._starts[index + 1]]))


def _line(row: Row) -> bytes:
    return json.dumps(astuple(row), ensure_ascii=False).encode() + b"\n"
