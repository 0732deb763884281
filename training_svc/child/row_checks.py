"""Which rows of a job can be trained on and measured with.

Two texts count as the same when they differ in white space or case only. The checks:

- a row with a blank text or a blank label is dropped;
- held-out rows with the same text and different labels are dropped, all of them: no answer to
  that text could be called right;
- a training row whose text is also held out is dropped, because the test would reward memory;
- training rows with the same text and different labels are dropped, all of them: nothing here
  can tell which label is right;
- of the training rows that are left, the newest `max_examples` are kept;
- a held-out row whose label no training row has is dropped: no challenger could get it right.

Repeated rows that agree stay: how often a text occurs is information.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from training_svc.child.frozen_rows import TEST, TRAIN, Row


class UnusableRows(ValueError):
    """Nothing can be trained or measured with these rows; the message says how to mend that."""


@dataclass(frozen=True)
class CheckedRows:
    """The rows to train on and the rows that are held out for the comparison."""

    train: tuple[Row, ...]
    test: tuple[Row, ...]
    dropped: int  # rows that the checks left out; not those beyond max_examples
    digest: str  # SHA-256 of the file of the frozen rows, hexadecimal
    labels: tuple[str, ...]  # of the training rows, sorted: the order of the model's outputs


def check(rows: Sequence[Row], digest: str, max_examples: int = 0) -> CheckedRows:
    """Sort the rows out by the rules of this module. `max_examples` 0 keeps every training row.

    Raises UnusableRows unless training rows of two labels and one held-out row are left.
    """
    sound = [row for row in rows if row.text.strip() and row.label.strip()]
    test = _without_conflicts([row for row in sound if row.split == TEST])
    held_out = {_key(row) for row in test}
    train = _without_conflicts(
        [row for row in sound if row.split == TRAIN and _key(row) not in held_out]
    )
    beyond = max(0, len(train) - max_examples) if max_examples else 0
    train = sorted(train, key=lambda row: row.id)[beyond:]
    labels = {row.label for row in train}
    test = [row for row in test if row.label in labels]
    _check_enough(rows, train, test, labels)
    return CheckedRows(
        train=tuple(train),
        test=tuple(test),
        dropped=len(rows) - beyond - len(train) - len(test),
        digest=digest,
        labels=tuple(sorted(labels)),
    )


def _check_enough(
    rows: Sequence[Row], train: Sequence[Row], test: Sequence[Row], labels: set[str]
) -> None:
    if len(labels) < 2:
        only = f"all have the label {next(iter(labels))!r}" if labels else "there is none"
        raise UnusableRows(
            f"a classifier needs training rows of at least two labels; of {len(rows):,} rows "
            f"{len(train):,} can be trained on and {only}: add rows of split 'train'"
        )
    if not test:
        raise UnusableRows(
            f"without held-out rows nothing can be compared; of {len(rows):,} rows none of split "
            "'test' has a label that is also trained on: add rows of split 'test'"
        )


def _without_conflicts(rows: Sequence[Row]) -> list[Row]:
    labels: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        labels[_key(row)].add(row.label)
    return [row for row in rows if len(labels[_key(row)]) == 1]


def _key(row: Row) -> str:
    return " ".join(row.text.split()).casefold()
