"""Puts texts of any lengths into rows of equal length, several in a row, with little padding.

Short texts beside each other cost what their tokens cost; a text a row would cost what the longest
of the batch costs. Few distinct shapes come out of it, since an engine keeps code for each.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from inference_svc.engines.base import PackedTexts
from inference_svc.shapes import padded_tokens, round_up

# Long enough for two or three sentences; attention costs little at this length. A row that has to
# hold a longer text is a multiple of the step.
ROW_TOKENS = 64
_ROW_STEP = 16
# The number of texts is a multiple of it: the last layers see each of them as a row of their own.
_TEXT_STEP = 8


class Layout(NamedTuple):
    """Where each text goes."""

    rows: int
    tokens: int
    """Of a row."""
    places: list[tuple[int, int]]
    """Row and column of the first token of each text."""


def lay_out(lengths: Sequence[int]) -> Layout:
    """Place texts of these lengths, the longest first, each into the first row with room."""
    return _lay_out(tuple(lengths))


# A batch is laid out when it is computed, and asked about when it is accounted for.
@lru_cache(maxsize=4)
def _lay_out(lengths: tuple[int, ...]) -> Layout:
    longest, total = max(lengths), sum(lengths)
    row_tokens = max(ROW_TOKENS, round_up(longest, _ROW_STEP))
    if total <= row_tokens:
        row_tokens = padded_tokens(total, total + ROW_TOKENS)
    used: list[int] = []
    places = [(0, 0)] * len(lengths)
    for index in sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True):
        length = lengths[index]
        row = next((row for row, taken in enumerate(used) if taken + length <= row_tokens), None)
        if row is None:
            row = len(used)
            used.append(0)
        places[index] = row, used[row]
        used[row] += length
    return Layout(len(used), row_tokens, places)


def pack(texts: Sequence[Sequence[int]], layout: Layout, pad_id: int) -> PackedTexts:
    """Put the token ids of the texts where the layout says."""
    shape = layout.rows, layout.tokens
    ids = np.full(shape, pad_id, dtype=np.int64)
    numbers = np.zeros(shape, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    first = np.zeros(round_up(len(texts), _TEXT_STEP), dtype=np.int64)
    for index, (text, (row, begin)) in enumerate(zip(texts, layout.places, strict=True)):
        end = begin + len(text)
        ids[row, begin:end] = text
        numbers[row, begin:end] = index + 1
        positions[row, begin:end] = np.arange(len(text))
        first[index] = row * layout.tokens + begin
    return PackedTexts(ids, numbers, positions, first)


def blank(rows: int, tokens: int) -> PackedTexts:
    """A batch of a shape, with nothing in it."""
    nothing = np.zeros((rows, tokens), dtype=np.int64)
    return PackedTexts(nothing, nothing, nothing, np.zeros(_TEXT_STEP, dtype=np.int64))
