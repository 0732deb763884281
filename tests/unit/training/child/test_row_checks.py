"""Which rows are trained on and which are held out, and how a job keeps them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service_kit.errors import Unavailable
from training_svc.child.frozen_rows import FrozenRows, Row, freeze
from training_svc.child.row_checks import CheckedRows, Kept, UnusableRows, check

Given = tuple[str | None, str | None, str]

SOUND: list[Given] = [
    ("good", "pos", "train"),
    ("bad", "neg", "train"),
    ("fine", "pos", "test"),
    ("poor", "neg", "test"),
]


def rows(*values: Given) -> list[Row]:
    return [Row(number, *value) for number, value in enumerate(values, start=1)]


def texts(kept: Kept) -> list[str]:
    return list(kept.texts())


def checked_rows(*values: Given, max_examples: int = 0) -> CheckedRows:
    return check(rows(*values), "any digest", max_examples)


def test_sound_rows_are_all_kept_and_labels_are_sorted() -> None:
    checked = checked_rows(*SOUND)
    assert texts(checked.train) == ["good", "bad"]
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.labels == ("neg", "pos")
    assert checked.dropped == 0


@pytest.mark.parametrize(
    ("unsound", "reason"),
    [
        (("  \n", "pos", "train"), "blank text"),
        (("x", " ", "train"), "blank label"),
        (("", "", "test"), "blank text"),
        ((None, "pos", "train"), "no text"),
        (("x", None, "test"), "no label"),
        ((None, None, "test"), "no text"),
        (("x" * 32_769, "pos", "train"), "text longer than 32,768 characters"),
        (("x", "l" * 129, "train"), "label longer than 128 characters"),
        (("x", "pos", "validation"), "split is neither train nor test"),
    ],
)
def test_rows_that_are_no_examples_are_dropped_with_the_reason(unsound: Given, reason: str) -> None:
    checked = checked_rows(*SOUND, unsound)
    assert (len(checked.train), len(checked.test), checked.dropped) == (2, 2, 1)
    assert checked.dropped_by_reason == {reason: 1}


def test_training_row_that_is_also_held_out_is_dropped() -> None:
    checked = checked_rows(*SOUND, (" FINE ", "pos", "train"), ("fine", "neg", "train"))
    assert texts(checked.train) == ["good", "bad"]
    assert checked.dropped_by_reason == {"training text that is also held out": 2}


def test_conflicting_training_rows_are_all_dropped() -> None:
    checked = checked_rows(*SOUND, ("so so", "pos", "train"), ("So  so", "neg", "train"))
    assert texts(checked.train) == ["good", "bad"]
    assert checked.dropped_by_reason == {"the same text under different labels": 2}


def test_conflicting_held_out_rows_are_all_dropped() -> None:
    checked = checked_rows(*SOUND, ("hm", "pos", "test"), ("hm", "neg", "test"))
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.dropped_by_reason == {"the same held-out text under different labels": 2}


def test_repeated_rows_that_agree_are_kept() -> None:
    checked = checked_rows(*SOUND, ("good", "pos", "train"))
    assert texts(checked.train) == ["good", "bad", "good"]
    assert checked.dropped == 0


def test_held_out_row_with_a_label_that_nobody_trains_on_is_dropped() -> None:
    checked = checked_rows(*SOUND, ("meh", "mid", "test"))
    assert texts(checked.test) == ["fine", "poor"]
    assert checked.dropped_by_reason == {"held-out label that no training row has": 1}


def test_max_examples_keeps_the_newest_and_drops_nothing() -> None:
    checked = checked_rows(*SOUND, ("new", "pos", "train"), max_examples=2)
    assert texts(checked.train) == ["bad", "new"]
    assert (checked.dropped, checked.left_out) == (0, 1)


def test_refusal_says_why_rows_were_dropped() -> None:
    with pytest.raises(UnusableRows, match=r"3 dropped: no label"):
        checked_rows(*[("a text", None, "train")] * 3, ("held out", "pos", "test"))


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
def test_unusable_rows_are_refused_with_what_to_do(given: list[Given], problem: str) -> None:
    with pytest.raises(UnusableRows, match=problem):
        checked_rows(*given)


def test_frozen_rows_come_back_as_they_were(tmp_path: Path) -> None:
    odd: list[Given] = [('quoted "text"\nin two lines, ünïcode', "pos", "train"), (None, None, "")]
    original = rows(*SOUND, *odd)
    freeze(iter(original), tmp_path / "rows.jsonl")
    thawed = FrozenRows(tmp_path / "rows.jsonl")
    assert list(thawed) == original
    assert thawed[-0:2] == original[:2]


def test_no_rows_come_back_as_none(tmp_path: Path) -> None:
    freeze([], tmp_path / "rows.jsonl")
    assert list(FrozenRows(tmp_path / "rows.jsonl")) == []


def test_file_of_an_earlier_version_is_read_with_the_digest_that_it_had(tmp_path: Path) -> None:
    line = '[1, "ünïcode \\"quoted\\"", "pos", "train"]\n'
    (tmp_path / "rows.jsonl").write_text(line)
    thawed = FrozenRows(tmp_path / "rows.jsonl")
    assert list(thawed) == [Row(1, 'ünïcode "quoted"', "pos", "train")]
    assert thawed.digest == "6d382094a726a158c566577fdd965e12576c055e4e0fb5671445ab25989bbb78"
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
    assert list(FrozenRows(path)) == rows(*SOUND)


def test_digest_tells_any_change_of_the_rows(tmp_path: Path) -> None:
    def digest(frozen: list[Row]) -> str:
        freeze(frozen, tmp_path / "rows.jsonl")
        return FrozenRows(tmp_path / "rows.jsonl").digest

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
