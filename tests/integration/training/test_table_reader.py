"""Which rows a training reads out of a real table."""

from pathlib import Path

import pytest

from tests.real_parts.postgres import execute
from tests.real_parts.training_service import import_rows
from training_svc.child import table_reader
from training_svc.child.frozen_rows import FrozenRows, Row
from training_svc.child.row_checks import UnusableRows
from training_svc.child.table_reader import freeze_table, left_out
from training_svc.jobs.folders import ROWS_FILE

ROWS = [(f"text {number}", "pos", "test" if number % 3 == 0 else "train") for number in range(9)]


def frozen(url: str, folder: Path, max_examples: int = 0) -> list[Row]:
    freeze_table(url, "reviews", max_examples, folder)
    return list(FrozenRows(folder / ROWS_FILE))


def texts(rows: list[Row], split: str) -> list[str | None]:
    return [row.text for row in rows if row.split == split]


def test_all_rows_are_read_when_all_are_wanted(postgres_url: str, tmp_path: Path) -> None:
    import_rows(postgres_url, "reviews", ROWS, new=True)
    rows = frozen(postgres_url, tmp_path)
    assert texts(rows, "train") == [text for text, _, split in ROWS if split == "train"]
    assert texts(rows, "test") == [text for text, _, split in ROWS if split == "test"]
    assert left_out(tmp_path) == 0


def test_only_the_newest_rows_of_each_split_are_read_and_the_others_are_counted(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_reader, "MAX_HELD_OUT", 2)
    import_rows(postgres_url, "reviews", ROWS, new=True)
    rows = frozen(postgres_url, tmp_path, max_examples=4)
    assert texts(rows, "train") == ["text 4", "text 5", "text 7", "text 8"]
    assert texts(rows, "test") == ["text 3", "text 6"]
    assert left_out(tmp_path) == 2


def test_rows_that_take_too_long_to_count_are_estimated(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_reader, "COUNT_TIMEOUT_MS", 1)
    import_rows(postgres_url, "reviews", [], new=True)
    execute(
        postgres_url,
        "INSERT INTO training.reviews (text, label, split)"
        " SELECT 'text ' || n, 'pos', 'train' FROM generate_series(1, 200000) AS n",
    )
    execute(postgres_url, "ANALYZE training.reviews")
    rows = frozen(postgres_url, tmp_path, max_examples=10)
    assert texts(rows, "train")[-1] == "text 200000"
    assert len(rows) == 10
    assert left_out(tmp_path) == pytest.approx(200_000, rel=0.1)


def test_table_of_a_users_own_may_hold_nulls_and_other_types(
    postgres_url: str, tmp_path: Path
) -> None:
    execute(
        postgres_url,
        "CREATE SCHEMA training; CREATE TABLE training.reviews"
        " (id bigint PRIMARY KEY, text varchar(50), label integer, split text)",
    )
    execute(
        postgres_url,
        "INSERT INTO training.reviews VALUES (1, NULL, 1, 'train'), (2, 'x', NULL, 'test'),"
        " (-3, 'y', 7, 'train')",
    )
    assert frozen(postgres_url, tmp_path) == [
        Row(2, "x", None, "test"),
        Row(-3, "y", "7", "train"),
        Row(1, None, "1", "train"),
    ]


def test_model_without_a_table_is_told_to_import_rows(postgres_url: str, tmp_path: Path) -> None:
    with pytest.raises(UnusableRows, match="mesh import reviews"):
        frozen(postgres_url, tmp_path)
    assert not (tmp_path / ROWS_FILE).exists()
