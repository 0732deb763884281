"""Ratios of two checkouts' figures within pairs, with an interval of confidence."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

from scipy.stats import quantile_test

from bench.paired.checkout_run import RunFigures

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Pair:
    """One run of each checkout."""

    before: RunFigures
    after: RunFigures


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios after/before of all pairs, with its interval of confidence."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        if math.isnan(self.low) or math.isnan(self.high):
            return f"{self.median:.3f} (too few pairs for an interval)"
        return f"{self.median:.3f} ({self.low:.3f} to {self.high:.3f})"


def ratio(pairs: Sequence[Pair], figure: Callable[[RunFigures], float]) -> Ratio:
    """Compare a figure within pairs.

    The interval is between two of the sorted ratios, which the binomial distribution chooses: no
    distribution of the ratios is assumed. It takes at least 6 pairs; its bounds are NaN with fewer.
    """
    ratios = [figure(pair.after) / figure(pair.before) for pair in pairs]
    test = quantile_test(ratios, q=median(ratios), p=0.5)
    low, high = test.confidence_interval(CONFIDENCE)
    return Ratio(median(ratios), float(low), float(high))
