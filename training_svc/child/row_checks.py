"""Which rows of a job can be trained on and measured with.

Two texts count as the same when they differ in white space or case only. The checks:

- a row without a text or a label, or with a blank or an overlong one, is dropped;
- held-out rows with the same text and different labels are dropped, all of them: no answer to
  that text could be called right;
- a training row whose text is also held out is dropped, because the test would reward memory;
- training rows with the same text and different labels are dropped, all of them: nothing here
  can tell which label is right;
- of the training rows that are left, the newest `max_examples` are kept;
- a held-out row whose label no training row has is dropped: no challenger could get it right.

Repeated rows that agree stay: how often a text occurs is information.

Of each row only a hash of its text and a number for its label are held in memory.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import overload

import numpy as np
from numpy.typing import NDArray

from service_kit.limits import MAX_LABEL_CHARACTERS, MAX_TEXT_CHARACTERS
from training_svc.child.frozen_rows import TEST, TRAIN, Row

NO_TEXT, BLANK_TEXT = "no text", "blank text"
NO_LABEL, BLANK_LABEL = "no label", "blank label"
LONG_TEXT = f"text longer than {MAX_TEXT_CHARACTERS:,} characters"
LONG_LABEL = f"label longer than {MAX_LABEL_CHARACTERS} characters"
OTHER_SPLIT = "split is neither train nor test"
TRAIN_CONFLICT = "the same text under different labels"
TEST_CONFLICT = "the same held-out text under different labels"
HELD_OUT = "training text that is also held out"
UNKNOWN_LABEL = "held-out label that no training row has"


class UnusableRows(ValueError):
    """Nothing can be trained or measured with these rows; the message says how to mend that."""


class Kept(Sequence[Row]):
    """Some of the rows, read from where they are whenever they are needed."""

    def __init__(self, rows: Sequence[Row], numbers: NDArray[np.int64]) -> None:
        self._rows = rows
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> "Kept": ...
    def __getitem__(self, index: int | slice) -> "Row | Kept":
        if isinstance(index, slice):
            return Kept(self._rows, self._numbers[index])
        return self._rows[int(self._numbers[index])]

    def texts(self) -> Sequence[str]:
        """The text of each row, read when it is needed."""
        return _Texts(self)

    def labels(self) -> list[str]:
        """The label of each row. Equal labels are one string in memory."""
        known: dict[str, str] = {}
        return [known.setdefault(label, label) for row in self if (label := row.label)]


class _Texts(Sequence[str]):
    def __init__(self, rows: Kept) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        if isinstance(index, slice):
            return _Texts(self._rows[index])
        return self._rows[index].text or ""


@dataclass(frozen=True)
class CheckedRows:
    """The rows to train on and the rows that are held out for the comparison."""

    train: Kept
    test: Kept
    digest: str  # SHA-256 of the file of the frozen rows, hexadecimal
    labels: tuple[str, ...]  # of the training rows, sorted: the order of the model's outputs
    left_out: int  # sound training rows beyond max_examples
    # Rows that the checks left out, by reason; not those beyond max_examples.
    dropped_by_reason: dict[str, int] = field(default_factory=dict)

    @property
    def dropped(self) -> int:
        """The number of rows that the checks left out."""
        return sum(self.dropped_by_reason.values())


def check(rows: Sequence[Row], digest: str, max_examples: int = 0) -> CheckedRows:
    """Sort the rows out by the rules of this module. `max_examples` 0 keeps every training row.

    Raises UnusableRows unless training rows of two labels and one held-out row are left.
    """
    dropped: Counter[str] = Counter()
    index = _Index(rows, dropped)
    test = index.of_split(TEST)
    test = index.drop(test, index.conflicting(test), TEST_CONFLICT)
    train = index.of_split(TRAIN)
    train = index.drop(train, np.isin(index.keys[train], index.keys[test]), HELD_OUT)
    train = index.drop(train, index.conflicting(train), TRAIN_CONFLICT)
    train = train[np.argsort(index.ids[train], kind="stable")]
    left_out = max(0, len(train) - max_examples) if max_examples else 0
    train = train[left_out:]
    unknown = np.isin(index.labels[test], index.labels[train], invert=True)
    test = index.drop(test, unknown, UNKNOWN_LABEL)
    labels = tuple(sorted(index.label_names[code] for code in np.unique(index.labels[train])))
    reasons = {reason: count for reason, count in dropped.items() if count}
    _check_enough(len(rows), len(train), len(test), labels, reasons)
    return CheckedRows(Kept(rows, train), Kept(rows, test), digest, labels, left_out, reasons)


class _Index:
    """Numbers for each sound row: its place, id, split, the hash of its text and its label."""

    def __init__(self, rows: Sequence[Row], dropped: Counter[str]) -> None:
        size = len(rows)
        self.ids = np.zeros(size, np.int64)
        self.keys = np.zeros(size, np.uint64)
        self.labels = np.full(size, -1, np.int32)
        self._is_test = np.zeros(size, bool)
        self._dropped = dropped
        codes: dict[str, int] = {}
        for number, row in enumerate(rows):
            if (reason := _unsound(row)) is not None:
                dropped[reason] += 1
                continue
            assert row.text is not None
            assert row.label is not None
            self.ids[number] = row.id
            self.keys[number] = _key(row.text)
            self.labels[number] = codes.setdefault(row.label, len(codes))
            self._is_test[number] = row.split == TEST
        self.label_names = tuple(codes)

    def of_split(self, split: str) -> NDArray[np.int64]:
        """The places of the sound rows of a split."""
        wanted = self._is_test if split == TEST else ~self._is_test
        return np.flatnonzero(wanted & (self.labels >= 0))

    def conflicting(self, places: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows have a text that one of the others has under another label."""
        order = places[np.lexsort((self.labels[places], self.keys[places]))]
        keys, labels = self.keys[order], self.labels[order]
        differ = (keys[1:] == keys[:-1]) & (labels[1:] != labels[:-1])
        return np.isin(self.keys[places], keys[1:][differ])

    def drop(
        self, places: NDArray[np.int64], chosen: NDArray[np.bool_], reason: str
    ) -> NDArray[np.int64]:
        """Count the chosen rows as dropped; return the places of the others."""
        self._dropped[reason] += int(chosen.sum())
        return places[~chosen]


def _unsound(row: Row) -> str | None:
    """Why a row by itself cannot be used, None when it can."""
    checks: tuple[tuple[str, Callable[[], bool]], ...] = (
        (OTHER_SPLIT, lambda: row.split not in (TRAIN, TEST)),
        (NO_TEXT, lambda: row.text is None),
        (NO_LABEL, lambda: row.label is None),
        (BLANK_TEXT, lambda: not str(row.text).strip()),
        (BLANK_LABEL, lambda: not str(row.label).strip()),
        (LONG_TEXT, lambda: len(str(row.text)) > MAX_TEXT_CHARACTERS),
        (LONG_LABEL, lambda: len(str(row.label)) > MAX_LABEL_CHARACTERS),
    )
    return next((reason for reason, is_so in checks if is_so()), None)


def _check_enough(
    rows: int, train: int, test: int, labels: Sequence[str], reasons: dict[str, int]
) -> None:
    told = "; ".join(f"{count:,} dropped: {reason}" for reason, count in sorted(reasons.items()))
    why = f" ({told})" if told else ""
    if len(labels) < 2:
        only = f"all have the label {labels[0]!r}" if labels else "there is none"
        raise UnusableRows(
            f"a classifier needs training rows of at least two labels; of {rows:,} rows "
            f"{train:,} can be trained on and {only}{why}: add rows of split 'train'"
        )
    if not test:
        raise UnusableRows(
            f"without held-out rows nothing can be compared; of {rows:,} rows none of split "
            f"'test' has a label that is also trained on{why}: add rows of split 'test'"
        )


def _key(text: str) -> int:
    same = " ".join(text.split()).casefold().encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(same, digest_size=8).digest(), "little")
