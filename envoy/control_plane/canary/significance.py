"""The significance tests of a canary; pure. Each returns a one-sided p-value, 0..1.

They are exact sums of few terms that need nothing but `math`: scipy and numpy would make up two
thirds of the control plane's image and a second of its start. The unit tests compare the results
with scipy's.
"""

import math
from collections.abc import Callable, Mapping, Sequence

# Labels with fewer expected texts than this in the smaller slice are tested together.
LEAST_EXPECTED = 5
# Share of a sum below which a term, and all smaller terms after it, change nothing.
_NEGLIGIBLE = 1e-17
_BISECTIONS = 50


def more_often(hits: int, of: int, other_hits: int, other_of: int) -> float:
    """Fisher's exact test: the chance of `hits` or more in `of` if both sides hit equally often."""
    if not hits or not other_of:
        return 1.0
    total, both = of + other_of, hits + other_hits

    def log_chance(mine: int) -> float:
        return _log_choose(of, mine) + _log_choose(other_of, both - mine) - _log_choose(total, both)

    possible = range(max(0, both - other_of), min(of, both) + 1)
    return _upper_tail(log_chance, hits, possible, mean=of * both / total)


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


def slower(times: Sequence[int], others: Sequence[int], shift: int) -> float:
    """Mann and Whitney's test that `times` exceed `others` moved up by `shift` buckets.

    Both are histograms of service_kit.histogram. The test compares ranks, so it assumes nothing
    about the distribution, and a few stalls hardly change it.
    """
    theirs = [0] * shift + list(others)
    size = max(len(times), len(theirs))
    mine = list(times) + [0] * (size - len(times))
    theirs += [0] * (size - len(theirs))
    n, m = sum(mine), sum(theirs)
    if not n or not m:
        return 1.0
    total, below, wins, ties = n + m, 0, 0.0, 0
    for here, there in zip(mine, theirs, strict=True):
        wins += here * (below + there / 2)
        below += there
        ties += (here + there) ** 3 - (here + there)
    variance = n * m / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return _normal_above((wins - n * m / 2 - 0.5) / math.sqrt(variance))


def drifted(
    labels: Mapping[str, int], others: Mapping[str, int], weight: float, other_weight: float
) -> float:
    """Chi-squared test of whether two slices have the same mix of labels.

    `weight` is the number of requests for each text, 0..1. In the worst case all texts of a request
    are alike, so only the number of requests counts as evidence.
    """
    names = labels.keys() | others.keys()
    pairs = [(labels.get(n, 0) * weight, others.get(n, 0) * other_weight) for n in names]
    mine, theirs = sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)
    if not mine or not theirs:
        return 1.0
    share = min(mine, theirs) / (mine + theirs)
    common = [pair for pair in pairs if sum(pair) * share >= LEAST_EXPECTED]
    rare = [pair for pair in pairs if 0 < sum(pair) * share < LEAST_EXPECTED]
    if rare:
        common.append((sum(pair[0] for pair in rare), sum(pair[1] for pair in rare)))
    if len(common) < 2:
        return 1.0
    statistic = 0.0
    for pair in common:
        for observed, side in zip(pair, (mine, theirs), strict=True):
            expected = sum(pair) * side / (mine + theirs)
            statistic += (observed - expected) ** 2 / expected
    return _chi_squared_above(statistic, len(common) - 1)


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


def _normal_above(value: float) -> float:
    return math.erfc(value / math.sqrt(2)) / 2


def _chi_squared_above(statistic: float, freedom: int) -> float:
    """Return the upper tail; with a whole number of degrees of freedom it is a finite sum."""
    half = statistic / 2
    if half <= 0:
        return 1.0
    odd = freedom % 2
    powers = (step + (0.5 if odd else 0.0) for step in range(freedom // 2))
    tail = sum(math.exp(p * math.log(half) - half - math.lgamma(p + 1)) for p in powers)
    return (math.erfc(math.sqrt(half)) if odd else 0.0) + tail


def _log_choose(of: int, some: int) -> float:
    return math.lgamma(of + 1) - math.lgamma(some + 1) - math.lgamma(of - some + 1)
