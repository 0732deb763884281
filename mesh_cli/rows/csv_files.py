"""Reads labelled texts from CSV files; every error names the line."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mesh_cli.errors import BadInput
from service_kit.errors import InvalidArgument
from service_kit.limits import check_label, check_text

# The csv module refuses longer fields by an error of its own. A text has at most 32,768 characters,
# so for all but enormous fields the error is ours, which says the length.
csv.field_size_limit(1 << 24)


@dataclass(frozen=True)
class Row:
    """One labelled text, and the line of the file where it begins."""

    line: int
    text: str
    label: str
    split: str


@dataclass(frozen=True)
class Columns:
    """Names of the columns; an empty `split` means that the file has no such column."""

    text: str = "text"
    label: str = "label"
    split: str = ""


def read_rows(path: Path, columns: Columns, split: str = "") -> list[Row]:
    """Read every row; rows whose file names no split get `split`.

    Raises BadInput, which names the file and the line that is no labelled text.
    """
    rows = [_row(path, line, cells, split) for line, cells in _cells(path, columns)]
    if not rows:
        raise BadInput(f"{path}: has no rows below its header")
    return rows


def _row(path: Path, line: int, cells: tuple[str, str, str], split: str) -> Row:
    text, label, named_split = cells
    try:
        check_text(text, "text")
        check_label(label, "label")
    except InvalidArgument as error:
        raise BadInput(f"{path}, line {line}: {error}") from None
    if named_split not in ("", "train", "test"):
        raise BadInput(f"{path}, line {line}: split is {named_split!r}, not train or test")
    return Row(line, text, label, named_split or split)


def _cells(path: Path, columns: Columns) -> Iterator[tuple[int, tuple[str, str, str]]]:
    reader = csv.reader(_lines(path), strict=True)
    begin = 1
    try:
        header = next(reader, None)
        if header is None:
            raise BadInput(f"{path}: is empty; it needs a header line with the column names")
        wanted = [columns.text, columns.label, *([columns.split] if columns.split else [])]
        for name in wanted:
            if name not in header:
                raise BadInput(
                    f"{path}, line 1: has no column {name!r}; it has {', '.join(header)}: "
                    "name them by --text-column, --label-column, --split-column"
                )
        indexes = [header.index(name) for name in wanted]
        begin = reader.line_num + 1
        for cells in reader:
            if cells:
                if len(cells) != len(header):
                    raise BadInput(
                        f"{path}, line {begin}: has {len(cells)} fields, the header {len(header)}"
                    )
                text, label, *split = [cells[index] for index in indexes]
                yield begin, (text, label, split[0] if split else "")
            begin = reader.line_num + 1
    except csv.Error as error:
        raise BadInput(f"{path}, line {begin}: {error} (is a quote not closed?)") from None


def _lines(path: Path) -> Iterator[str]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}") from None
    with file:
        for number, raw in enumerate(file, 1):
            if b"\0" in raw:
                raise BadInput(f"{path}, line {number}: has a NUL character")
            try:
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(
                    f"{path}, line {number}: is not UTF-8 (byte {error.start + 1} of the line)"
                ) from None


def check_test_labels(path: Path, train: list[Row], test: list[Row]) -> None:
    """Raise BadInput for a test row whose label no training row has."""
    trained = {row.label for row in train}
    for row in test:
        if row.label not in trained:
            raise BadInput(
                f"{path}, line {row.line}: label {row.label!r} is in no training row; "
                f"training rows have {', '.join(sorted(trained)[:10])}"
            )
