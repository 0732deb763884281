"""Puts texts of any lengths into rows of equal length, several in a row, with little padding.

Packed texts cost what their own tokens cost. With one text in each row, every text would cost as
much as the longest. Batches get few distinct shapes, since an engine keeps code for each shape.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from inference_svc.engines.base import PackedTexts
from inference_svc.model.shapes import round_up

# Row lengths are multiples of this: matrix units take sixteen tokens at once, and rows of 40 tokens
# took longer than rows of 48.
ROW_STEP = 16
# Row lengths are tried from the longest text's length to _SPARE_TOKENS more, and at least to
# ROW_TOKENS. Batches of more than _FEW_TOKENS tokens try three lengths only, from
# _LARGE_ROW_TOKENS on: more would gain little, and the engine keeps 0.8 MB for each shape.
_SPARE_TOKENS = 64
ROW_TOKENS = 128
_FEW_TOKENS = 256
_LARGE_ROW_TOKENS = 64
_LARGE_SPARE_TOKENS = 32
# Row length at which attention takes as long as the rest of a layer (measured: MiniLM, bf16, one
# core; 32 microseconds a token in rows of 32, 37 in rows of 128, 45 in rows of 256).
_ATTENTION_TOKENS = 512
# The number of texts is padded to a multiple of this: to the last layers each text is a row.
_TEXT_STEP = 8


class Layout(NamedTuple):
    """The place of each text in a batch."""

    rows: int
    tokens: int
    """Length of each row."""
    places: list[tuple[int, int]]
    """Row and column of the first token of each text."""


def lay_out(lengths: Sequence[int]) -> Layout:
    """Place texts of these lengths in rows of the length that makes the least work.

    The longest first, each into the first row with room.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__, reverse=True)
    best = _least_work([lengths[index] for index in order])
    places = [(0, 0)] * len(lengths)
    for index, place in zip(order, best.places, strict=True):
        places[index] = place
    return best._replace(places=places)


def _least_work(falling: Sequence[int]) -> Layout:
    """The layout with the least work, for texts ordered from the longest to the shortest."""
    total = sum(falling)
    shortest = round_up(falling[0], ROW_STEP)
    longest = max(shortest + _SPARE_TOKENS, ROW_TOKENS)
    if total > _FEW_TOKENS:
        shortest = max(shortest, _LARGE_ROW_TOKENS)
        longest = shortest + _LARGE_SPARE_TOKENS
    best = _first_fit(falling, shortest)
    for tokens in range(shortest + ROW_STEP, longest + 1, ROW_STEP):
        least = _work(best.rows, best.tokens)
        if _work(-(-total // tokens), tokens) >= least:
            continue  # more work even without any padding
        layout = _first_fit(falling, tokens)
        if _work(layout.rows, tokens) < least:
            best = layout
    return best


def _work(rows: int, tokens: int) -> int:
    return rows * tokens * (_ATTENTION_TOKENS + tokens)


def _first_fit(lengths: Sequence[int], tokens: int) -> Layout:
    """Place each text in the first row with room."""
    used: list[int] = []
    places: list[tuple[int, int]] = []
    for length in lengths:
        free = (row for row, filled in enumerate(used) if filled + length <= tokens)
        row = next(free, len(used))
        if row == len(used):
            used.append(0)
        places.append((row, used[row]))
        used[row] += length
    return Layout(len(used), tokens, places)


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
    """A batch of this shape that holds padding only."""
    nothing = np.zeros((rows, tokens), dtype=np.int64)
    return PackedTexts(nothing, nothing, nothing, np.zeros(_TEXT_STEP, dtype=np.int64))
