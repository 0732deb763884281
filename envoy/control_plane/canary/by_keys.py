"""Tests of two versions' numbers that take keys for the units, not requests; pure.

Envoy deals keys at random: each goes to the Challenger with the chance `share`, with all requests
that carry it. If the Challenger is equal, only this draw decides how many hits (failures, slow
answers, texts of a label) it gets. The tests ask for the chance that the draw gives it as many hits
as it got. A heavy caller's requests are one draw, so they are weak evidence, however many they are.

The share that the split promises and the one that was seen may differ, for example where a replica
has no Challenger. So a test takes several `shares`, and the largest chance counts.

A cell stands for the keys of one key bucket of one version, and is taken for one draw. Chances are
upper bounds (Chernoff's), which hold for any number of cells and for any sizes. Each test returns a
p-value, 0..1.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from operator import mul
from statistics import median
from typing import NamedTuple

from control_plane.fleet.slot_stats import NOTHING, Histogram, KeyBucket, SlotStats

# A difference of fewer standard deviations is never significant, so its chance is only estimated.
_NEAR = 2.5
# The bound is computed for this many labels with the largest differences.
_LABELS = 3
# Largest exponent of the bound, for the cell of the largest weight.
_STEEPEST = 64.0
_BISECTIONS = 20
_LEAST_SHARE = 0.001


class Cell(NamedTuple):
    """What was counted in one key bucket of one version."""

    hits: float
    of: float


def more_often(mine: Iterable[Cell], others: Iterable[Cell], shares: Sequence[float]) -> float:
    """Return the chance that the draw gives one version at least the hits of `mine`.

    `shares` are the chances, above 0 and below 1, with which a key may be dealt to that version.
    """
    mine, others = tuple(mine), tuple(others)
    of = sum(cell.of for cell in (*mine, *others))
    if not of:
        return 1.0
    rate = sum(cell.hits for cell in (*mine, *others)) / of
    weights = [cell.hits - rate * cell.of for cell in (*mine, *others)]
    return _drawn(sum(weights[: len(mine)]), weights, shares)


def shares_of(planned: float, mine: SlotStats, others: SlotStats) -> tuple[float, float]:
    """Return the chance of a key to be dealt to `mine`: as planned, and as in half of the buckets.

    A few heavy callers do not move the second one.
    """
    pairs = zip_longest(mine.buckets, others.buckets, fillvalue=NOTHING)
    answered = [(one.answered, one.answered + other.answered) for one, other in pairs]
    seen = median([one / both for one, both in answered if both] or [planned])
    return planned, min(max(seen, _LEAST_SHARE), 1 - _LEAST_SHARE)


def more_than(cells: Iterable[Cell], rate: float) -> float:
    """Return the chance of at least these hits if no key's requests hit more often than `rate` on
    average."""
    cells = tuple(cells)
    excess = sum(cell.hits - rate * cell.of for cell in cells)
    if excess <= 0 or rate >= 1.0:
        return 1.0
    if rate <= 0.0:
        return 0.0
    # At worst all requests of a cell are alike.
    alike = _drawn(excess, [cell.of for cell in cells], (rate,))
    if rate > 0.5:
        return alike
    # The bound for sums of draws that are as often above the rate as below, by their own spread. It
    # also holds for rarer and larger excesses, that is, up to a rate of one half.
    spread = sum((cell.hits - rate * cell.of) ** 2 for cell in cells)
    return min(1.0, 2 * min(alike, math.exp(-(excess**2) / (2 * spread))))


def slower(
    mine: Sequence[Histogram], others: Sequence[Histogram], shift: int, shares: Sequence[float]
) -> float:
    """Return the chance that times rank so much above the other version's moved up by `shift`
    buckets; there is a histogram for each cell.

    Ranks assume nothing about the distribution, and a few stalls hardly change them.
    """
    moved = [(0,) * shift + tuple(times) for times in others]
    pooled = [sum(counts) for counts in zip_longest(*mine, *moved, fillvalue=0)]
    ranks, below, total = [], 0, sum(pooled) or 1
    for count in pooled:
        ranks.append((below + count / 2) / total)
        below += count

    def ranked(times: Sequence[int]) -> Cell:
        return Cell(sum(map(mul, times, ranks)), sum(times))

    return more_often(map(ranked, mine), map(ranked, moved), shares)


def drifted(
    mine: Sequence[KeyBucket], others: Sequence[KeyBucket], shares: Sequence[float]
) -> float:
    """Return the chance that the share of any label differs so much between two versions."""
    cells = (*mine, *others)
    texts = sum(cell.texts for cell in cells)
    names = {name for cell in cells for name, count in cell.labels.items() if count}
    if not texts or len(names) < 2:
        return 1.0
    # Two labels are one question: what one of them gains the other loses.
    asked = sorted(names)[:1] if len(names) == 2 else sorted(names)
    differences: list[tuple[float, list[float]]] = []
    for name in asked:
        rate = sum(cell.labels.get(name, 0) for cell in cells) / texts
        weights = [cell.labels.get(name, 0) - rate * cell.texts for cell in cells]
        differences.append((sum(weights[: len(mine)]), weights))
    differences.sort(key=lambda one: _deviations(one[0], one[1], 0.5), reverse=True)
    least = 1.0
    for excess, weights in differences[:_LABELS]:
        sign = math.copysign(1.0, excess)
        least = min(least, _drawn(abs(excess), [sign * weight for weight in weights], shares))
    # Every label might have differed, in two directions.
    return min(1.0, 2 * len(asked) * least)


def _deviations(excess: float, weights: Sequence[float], share: float) -> float:
    """Return how many standard deviations of the draw a sum lies off its mean."""
    variance = share * (1 - share) * sum(weight * weight for weight in weights)
    return abs(excess) / math.sqrt(variance) if variance > 0 else 0.0


def _drawn(excess: float, weights: Sequence[float], shares: Sequence[float]) -> float:
    """Bound the chance that weights, each drawn with the chance of one of `shares`, sum to `excess`
    or more above the mean of such sums."""
    return 1.0 if excess <= 0 else max(_drawn_with(share, excess, weights) for share in shares)


def _drawn_with(share: float, excess: float, weights: Sequence[float]) -> float:
    deviations = _deviations(excess, weights, share)
    if deviations < _NEAR:
        return math.exp(-(deviations**2) / 2)
    unit = max(abs(weight) for weight in weights)
    parts = [weight / unit for weight in weights if weight]
    mean, wanted = share * sum(parts), excess / unit
    odds, other = math.log(share), math.log1p(-share)

    def slope(steep: float) -> float:
        # The mean of the sum if large weights were drawn more often by this steepness.
        return sum(part / (1 + math.exp(other - odds - steep * part)) for part in parts) - mean

    low, high = 0.0, 1.0
    while high < _STEEPEST and slope(high) < wanted:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        steep = (low + high) / 2
        if slope(steep) < wanted:
            low = steep
        else:
            high = steep
    # Every steepness gives a bound; that one gives the lowest.
    grown = sum(_log_sum(other, odds + high * part) for part in parts)
    return min(1.0, math.exp(grown - high * (mean + wanted)))


def _log_sum(one: float, two: float) -> float:
    """Return the logarithm of the sum of two numbers that are given by their logarithms."""
    largest = max(one, two)
    return largest + math.log(math.exp(one - largest) + math.exp(two - largest))
