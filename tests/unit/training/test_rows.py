"""Which rows are trained on and which are held out."""

from pathlib import Path

import pytest

from training_svc.child.rows import Row, UnusableRows, check, digest, freeze, thaw

SOUND = [
    ("good", "pos", "train"),
    ("bad", "neg", "train"),
    ("fine", "pos", "test"),
    ("poor", "neg", "test"),
]


def rows(*values: tuple[str, str, str]) -> list[Row]:
    return [Row(number, *value) for number, value in enumerate(values, start=1)]


def texts(found: tuple[Row, ...]) -> list[str]:
    return [row.text for row in found]


def test_sound_rows_are_all_kept_and_labels_are_sorted() -> None:
    checked = check(rows(*SOUND))
    assert texts(checked.train) == ["good", "bad"]
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.labels == ("neg", "pos")
    assert checked.dropped == 0


@pytest.mark.parametrize("blank", [("  \n", "pos", "train"), ("x", " ", "train"), ("", "", "test")])
def test_blank_rows_are_dropped(blank: tuple[str, str, str]) -> None:
    checked = check(rows(*SOUND, blank))
    assert (len(checked.train), len(checked.test), checked.dropped) == (2, 2, 1)


def test_training_row_that_is_also_held_out_is_dropped() -> None:
    checked = check(rows(*SOUND, (" FINE ", "pos", "train"), ("fine", "neg", "train")))
    assert texts(checked.train) == ["good", "bad"]
    assert checked.dropped == 2


def test_conflicting_training_rows_are_all_dropped() -> None:
    checked = check(rows(*SOUND, ("so so", "pos", "train"), ("So  so", "neg", "train")))
    assert texts(checked.train) == ["good", "bad"]
    assert checked.dropped == 2


def test_conflicting_held_out_rows_are_all_dropped() -> None:
    checked = check(rows(*SOUND, ("hm", "pos", "test"), ("hm", "neg", "test")))
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.dropped == 2


def test_repeated_rows_that_agree_are_kept() -> None:
    checked = check(rows(*SOUND, ("good", "pos", "train")))
    assert texts(checked.train) == ["good", "bad", "good"]
    assert checked.dropped == 0


def test_held_out_row_with_a_label_that_nobody_trains_on_is_dropped() -> None:
    checked = check(rows(*SOUND, ("meh", "mid", "test")))
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.dropped == 1


def test_max_examples_keeps_the_newest_and_drops_nothing() -> None:
    checked = check(rows(*SOUND, ("new", "pos", "train")), max_examples=2)
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
        check(rows(*given))


def test_frozen_rows_come_back_as_they_were(tmp_path: Path) -> None:
    original = rows(*SOUND, ('quoted "text"\nin two lines, ünïcode', "pos", "train"))
    freeze(original, tmp_path / "rows.jsonl")
    assert thaw(tmp_path / "rows.jsonl") == original


def test_digest_tells_any_change_of_the_rows() -> None:
    original = rows(*SOUND)
    changed = [*original[:-1], Row(4, "poor", "pos", "test")]
    assert digest(original) == digest(rows(*SOUND))
    assert digest(original) != digest(changed)
    assert len(digest(original)) == 64
