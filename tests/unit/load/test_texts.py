"""The texts that a load sends."""

from pathlib import Path

import pytest

from mesh_cli.errors import BadInput
from mesh_cli.load import read_texts


def test_texts_are_distinct_and_their_order_can_be_drawn(tmp_path: Path) -> None:
    lines = tmp_path / "texts.txt"
    lines.write_text("one\n\ntwo\none\n  \nthree\n")
    assert read_texts(lines) == ["one", "two", "three"]
    table = tmp_path / "rows.csv"
    table.write_text('\ufeffid,review\r\n1,"a, b"\r\n2,c\r\n', encoding="utf-8")
    assert read_texts(table, "review") == ["a, b", "c"]
    samples = read_texts(None)
    assert len(samples) == len(set(samples)) > 500
    assert sorted(read_texts(None, shuffle=1)) == sorted(samples) != samples
    assert read_texts(None, shuffle=1) == read_texts(None, shuffle=1)


def test_files_without_texts_are_bad_input(tmp_path: Path) -> None:
    table = tmp_path / "rows.csv"
    table.write_text("id,review\n1,a\n")
    with pytest.raises(BadInput, match="no column 'text'; it has id, review"):
        read_texts(table)
    with pytest.raises(BadInput, match="No such file"):
        read_texts(tmp_path / "nothing.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(BadInput, match="has no texts"):
        read_texts(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match="utf-8"):
        read_texts(tmp_path / "latin.txt")
