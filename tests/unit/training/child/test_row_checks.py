"""Which rows are trained on and which are held out, and how a job keeps them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service_kit.errors import Unavailable
from training_svc.child.frozen_rows import Row, freeze, thaw
from training_svc.child.row_checks import CheckedRows, UnusableRows, check

SOUND = [
    ("good", "pos", "train"),
    ("bad", "neg", "train"),
    ("fine", "pos", "test"),
    ("poor", "neg", "test"),
]


def rows(*values: tuple[str, str, str]) -> list[Row]:
    return [Row(number, *value) for number, value in enumerate(values, start=1)]


def texts(kept: tuple[Row, ...]) -> list[str]:
    return [row.text for row in kept]


def checked_rows(*values: tuple[str, str, str], max_examples: int = 0) -> CheckedRows:
    return check(rows(*values), "any digest", max_examples)


def test_sound_rows_are_all_kept_and_labels_are_sorted() -> None:
    checked = checked_rows(*SOUND)
    assert texts(checked.train) == ["good", "bad"]
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.labels == ("neg", "pos")
    assert checked.dropped == 0


@pytest.mark.parametrize("blank", [("  \n", "pos", "train"), ("x", " ", "train"), ("", "", "test")])
def test_blank_rows_are_dropped(blank: tuple[str, str, str]) -> None:
    checked = checked_rows(*SOUND, blank)
    assert (len(checked.train), len(checked.test), checked.dropped) == (2, 2, 1)


def test_training_row_that_is_also_held_out_is_dropped() -> None:
    checked = checked_rows(*SOUND, (" FINE ", "pos", "train"), ("fine", "neg", "train"))
    assert texts(checked.train) == ["good", "bad"]
    assert checked.dropped == 2


def test_conflicting_training_rows_are_all_dropped() -> None:
    checked = checked_rows(*SOUND, ("so so", "pos", "train"), ("So  so", "neg", "train"))
    assert texts(checked.train) == ["good", "bad"]
    assert checked.dropped == 2


def test_conflicting_held_out_rows_are_all_dropped() -> None:
    checked = checked_rows(*SOUND, ("hm", "pos", "test"), ("hm", "neg", "test"))
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.dropped == 2


def test_repeated_rows_that_agree_are_kept() -> None:
    checked = checked_rows(*SOUND, ("good", "pos", "train"))
    assert texts(checked.train) == ["good", "bad", "good"]
    assert checked.dropped == 0


def test_held_out_row_with_a_label_that_nobody_trains_on_is_dropped() -> None:
    checked = checked_rows(*SOUND, ("meh", "mid", "test"))
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.dropped == 1


def test_max_examples_keeps_the_newest_and_drops_nothing() -> None:
    checked = checked_rows(*SOUND, ("new", "pos", "train"), max_examples=2)
    assert texts(checked.train) == ["bad", "new"]
    assert checked.dropped == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ([], "at least two labels; of 0 rows 0 can be trained on and there is none"),
        (SOUND[:1] + SOUND[2:], "1 can be trained on and all have the label 'pos'"),
        (SOUND[:2], "add rows of split 'test'"),
        ([*SOUND[:2], ("meh", "mid", "test")], "none of split 'test' has a label"),
        ([*SOUND[:2], ("good", "pos", "test")], "at least two labels"),
    ],
)
def test_unusable_rows_are_refused_with_what_to_do(
    given: list[tuple[str, str, str]], problem: str
) -> None:
    with pytest.raises(UnusableRows, match=problem):
        checked_rows(*given)


def test_frozen_rows_come_back_as_they_were(tmp_path: Path) -> None:
    original = rows(*SOUND, ('quoted "text"\nin two lines, ünïcode', "pos", "train"))
    freeze(iter(original), tmp_path / "rows.jsonl")
    assert thaw(tmp_path / "rows.jsonl")[0] == original


def test_file_of_an_earlier_version_is_read_with_the_digest_that_it_had(tmp_path: Path) -> None:
    line = '[1, "ünïcode \\"quoted\\"", "pos", "train"]\n'
    (tmp_path / "rows.jsonl").write_text(line)
    assert thaw(tmp_path / "rows.jsonl") == (
        [Row(1, 'ünïcode "quoted"', "pos", "train")],
        "6d382094a726a158c566577fdd965e12576c055e4e0fb5671445ab25989bbb78",
    )
    freeze([Row(1, 'ünïcode "quoted"', "pos", "train")], tmp_path / "again.jsonl")
    assert (tmp_path / "again.jsonl").read_text() == line


def test_freezing_that_breaks_off_leaves_no_file_and_can_be_done_again(tmp_path: Path) -> None:
    def broken() -> Iterator[Row]:
        yield Row(1, "half a line", "pos", "train")
        raise Unavailable("PostgreSQL went away")

    path = tmp_path / "rows.jsonl"
    with pytest.raises(Unavailable):
        freeze(broken(), path)
    assert not path.exists()
    freeze(rows(*SOUND), path)
    assert thaw(path)[0] == rows(*SOUND)


def test_digest_tells_any_change_of_the_rows(tmp_path: Path) -> None:
    def digest(frozen: list[Row]) -> str:
        freeze(frozen, tmp_path / "rows.jsonl")
        return thaw(tmp_path / "rows.jsonl")[1]

    original = digest(rows(*SOUND))
    assert len(original) == 64
    assert digest(rows(*SOUND)) == original
    for changed in (
        Row(5, "poor", "neg", "test"),
        Row(4, "Poor", "neg", "test"),
        Row(4, "poor", "pos", "test"),
        Row(4, "poor", "neg", "train"),
    ):
        assert digest([*rows(*SOUND)[:-1], changed]) != original
