"""The binomial test and its bound; pure.

They are exact sums of few terms that need nothing but `math`: scipy and numpy would make up two
thirds of the control plane's image and a second of its start. The unit tests compare the results
with scipy's.
"""

import math
from collections.abc import Callable
from functools import lru_cache

# Share of a sum below which a term, and all smaller terms after it, change nothing.
_NEGLIGIBLE = 1e-17
_BISECTIONS = 50


def above(hits: int, of: int, rate: float) -> float:
    """Exact binomial test: the chance of `hits` or more in `of` at a rate of `rate`."""
    if not hits or rate >= 1.0:
        return 1.0
    if rate <= 0.0:
        return 0.0
    log_hit, log_miss = math.log(rate), math.log1p(-rate)

    def log_chance(mine: int) -> float:
        return _log_choose(of, mine) + mine * log_hit + (of - mine) * log_miss

    return _upper_tail(log_chance, hits, range(of + 1), mean=of * rate)


@lru_cache(maxsize=256)
def upper_bound(hits: int, of: int, confidence: float) -> float:
    """Return the highest rate that `hits` in `of` leave plausible (Clopper and Pearson)."""
    if hits >= of:
        return 1.0
    low, high = hits / of, 1.0
    for _ in range(_BISECTIONS):
        rate = (low + high) / 2
        if above(hits + 1, of, rate) < confidence:
            low = rate
        else:
            high = rate
    return high


def _upper_tail(
    log_chance: Callable[[int], float], hits: int, possible: range, mean: float
) -> float:
    """Return the chance of `hits` or more. It sums away from the mean, where terms only shrink."""
    if hits > mean:
        return min(1.0, _sum(log_chance, range(max(hits, possible.start), possible.stop)))
    return max(0.0, 1.0 - _sum(log_chance, range(hits - 1, possible.start - 1, -1)))


def _sum(log_chance: Callable[[int], float], numbers: range) -> float:
    total = 0.0
    for number in numbers:
        term = math.exp(log_chance(number))
        total += term
        if term <= total * _NEGLIGIBLE:
            break
    return total


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)
