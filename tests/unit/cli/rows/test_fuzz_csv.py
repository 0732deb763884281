"""Any CSV file is read, or refused by an error that names it."""

import csv
import io
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import example, given
from hypothesis import strategies as st

from mesh_cli.errors import BadInput
from mesh_cli.rows.csv_files import Columns, Row, read_rows
from service_kit.limits import MAX_LABEL_CHARACTERS, MAX_TEXT_CHARACTERS

CELLS = st.text(max_size=20) | st.sampled_from(("text", "label", "split", "train", "test", '"', ""))
COLUMNS = st.sampled_from((Columns(), Columns(split="split"), Columns("label", "text")))


def read(content: bytes, columns: Columns) -> list[Row] | None:
    """The rows, checked, or None when the file is refused."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(content)
        try:
            rows = read_rows(path, columns, "train")
        except BadInput as error:
            refusal = str(error)
        else:
            return checked(rows)
    assert str(path) in refusal
    return None


def checked(rows: list[Row]) -> list[Row]:
    """The same rows, each within the limits."""
    for row in rows:
        assert 1 <= len(row.text) <= MAX_TEXT_CHARACTERS
        assert 1 <= len(row.label) <= MAX_LABEL_CHARACTERS
        assert row.split in ("train", "test")
        assert "\0" not in row.text + row.label
        (row.text + row.label).encode()
    return rows


@given(st.binary(max_size=300), COLUMNS)
@example(b"text,label\n" + b'"' * 100_001 + b",a\n", Columns())
@example(b"text,label\n" + b"x" * (1 << 24) + b"xx,a\n", Columns())
@example(b"text,label\r\ra,b\r", Columns())
@example(b"\xef\xbb\xbf\xef\xbb\xbftext,label\na,b\n", Columns())
def test_any_bytes_are_read_or_refused(content: bytes, columns: Columns) -> None:
    read(content, columns)


@given(st.binary(max_size=200), COLUMNS)
def test_any_bytes_below_a_header_are_read_or_refused(rows: bytes, columns: Columns) -> None:
    read(b"text,label,split\n" + rows, columns)


@given(st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=6), COLUMNS)
def test_any_table_is_read_or_refused(cells: list[list[str]], columns: Columns) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(cells)
    read(text.getvalue().encode("utf-8", "replace"), columns)


@given(st.lists(st.tuples(st.text(min_size=1, max_size=50), st.text(min_size=1, max_size=20))))
def test_rows_of_a_csv_writer_are_read_as_they_were(
    pairs: list[tuple[str, str]],
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("text", "label"))
    writer.writerows(pairs)
    blank = any(cell.isspace() or "\0" in cell for pair in pairs for cell in pair)
    rows = read(text.getvalue().encode("utf-8", "surrogatepass"), Columns())
    if not pairs or blank:
        assert rows is None
    else:
        assert rows is not None
        assert [(row.text, row.label) for row in rows] == pairs
