"""Labelled texts from CSV files, and the lines that errors name."""

from pathlib import Path

import pytest

from mesh_cli.errors import BadInput
from mesh_cli.rows.csv_files import Columns, check_test_labels, read_rows


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "rows.csv"
    path.write_bytes(content)
    return path


def test_rows_carry_the_line_where_they_begin(tmp_path: Path) -> None:
    path = _file(tmp_path, b'text,label\n"two\nlines",a\n\nlast,b\n')
    rows = read_rows(path, Columns())
    assert [(row.line, row.text, row.label) for row in rows] == [
        (2, "two\nlines", "a"),
        (5, "last", "b"),
    ]


def test_byte_order_mark_and_crlf_are_read(tmp_path: Path) -> None:
    rows = read_rows(_file(tmp_path, b"\xef\xbb\xbftext,label\r\ngut,a\r\n"), Columns())
    assert [(row.text, row.label) for row in rows] == [("gut", "a")]


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = _file(tmp_path, b"id,verdict,part,review\n1,a,test,x\n2,b,train,y\n")
    rows = read_rows(path, Columns("review", "verdict", "part"))
    assert [(row.text, row.label, row.split) for row in rows] == [
        ("x", "a", "test"),
        ("y", "b", "train"),
    ]


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", None, "is empty"),
        (b"text,label\n", None, "no rows"),
        (b"review,label\nx,a\n", 1, "no column 'text'"),
        (b"text,label\nx,a\ny\x00z,b\n", 3, "NUL"),
        (b"text,label\nx,a\n\xff\xfe,b\n", 3, "not UTF-8"),
        (b'text,label\nx,a\n"open,b\nmore,c\n', 3, "quote"),
        (b'text,label\n"x"y,a\n', 2, "quote"),
        (b"text,label\nx,a\n  ,b\n", 3, "blank"),
        (b"text,label\nx,\n", 2, "label: is blank"),
        (b"text,label\nx,a,b\n", 2, "3 fields"),
        (b"text,label\n" + b"x" * 32_769 + b",a\n", 2, "32,768"),
    ],
)
def test_errors_name_the_file_and_the_line(
    tmp_path: Path, content: bytes, line: int | None, message: str
) -> None:
    path = _file(tmp_path, content)
    with pytest.raises(BadInput) as caught:
        read_rows(path, Columns())
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    if line is not None:
        assert f"line {line}" in str(caught.value)


def test_an_unknown_split_is_refused_with_its_line(tmp_path: Path) -> None:
    path = _file(tmp_path, b"text,label,split\nx,a,validation\n")
    with pytest.raises(BadInput, match="line 2: split is 'validation'"):
        read_rows(path, Columns(split="split"))


def test_missing_file_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="No such file"):
        read_rows(tmp_path / "nothing.csv", Columns())


def test_a_label_of_test_rows_only_is_refused_with_its_line(tmp_path: Path) -> None:
    train = read_rows(_file(tmp_path, b"text,label\nx,a\n"), Columns(), "train")
    path = _file(tmp_path, b"text,label\nx,a\ny,c\n")
    test = read_rows(path, Columns(), "test")
    with pytest.raises(BadInput, match="line 3: label 'c'"):
        check_test_labels(path, train, test)
