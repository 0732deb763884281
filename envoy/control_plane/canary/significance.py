"""The significance tests of a canary; pure. Each returns a one-sided p-value, 0..1.

scipy.stats has some of them and takes 1.2 s to import. numpy and scipy.special are imported when
they are used: no restart of the control plane need wait for them.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

# Below this many expected texts in the smaller slice a label is tested together with others.
LEAST_EXPECTED = 5


def more_often(hits: int, of: int, other_hits: int, other_of: int) -> float:
    """Fisher's exact test: the chance of `hits` or more if both sides hit equally often."""
    if not hits or not other_of:
        return 1.0
    import numpy as np

    total, both = of + other_of, hits + other_hits
    mine = np.arange(hits, min(of, both) + 1)
    chances = (
        _log_choose(of, mine)
        + _log_choose(other_of, both - mine)
        - _log_choose(total, np.asarray(both))
    )
    return min(1.0, float(np.exp(chances).sum()))


def above(hits: int, of: int, rate: float) -> float:
    """Exact binomial test: the chance of `hits` or more in `of` at this rate."""
    return float(_special().bdtrc(hits - 1, of, rate)) if hits else 1.0


def upper_bound(hits: int, of: int, confidence: float) -> float:
    """Highest rate that `hits` in `of` leave plausible (Clopper and Pearson)."""
    return 1.0 if hits >= of else float(_special().betaincinv(hits + 1, of - hits, confidence))


def slower(times: Sequence[int], others: Sequence[int], shift: int) -> float:
    """Mann and Whitney's test that `times` exceed `others` moved up by `shift` buckets.

    Histograms of service_kit.histogram; ranks ask nothing of the distribution, and a few stalls
    hardly move them.
    """
    import numpy as np

    size = max(len(times), len(others) + shift)
    mine = np.zeros(size)
    mine[: len(times)] = times
    theirs = np.zeros(size)
    theirs[shift : shift + len(others)] = others
    n, m = mine.sum(), theirs.sum()
    if not n or not m:
        return 1.0
    wins = float((mine * (theirs.cumsum() - theirs / 2)).sum())
    ties = mine + theirs
    total = n + m
    variance = n * m / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    return float(_special().ndtr(-(wins - n * m / 2 - 0.5) / np.sqrt(variance)))


def drifted(
    labels: Mapping[str, int], others: Mapping[str, int], weight: float, other_weight: float
) -> float:
    """Chi-squared test of whether two slices have the same mix of labels.

    `weight`: requests a text, 0..1. The texts of one request are alike at worst, so that only its
    requests tell something.
    """
    import numpy as np

    names = sorted(labels.keys() | others.keys())
    table = np.array(
        [
            [labels.get(name, 0) * weight for name in names],
            [others.get(name, 0) * other_weight for name in names],
        ],
        dtype=float,
    )
    if not names or not table.sum(axis=1).all():
        return 1.0
    columns = table.sum(axis=0)
    rare = columns * table.sum(axis=1).min() / table.sum() < LEAST_EXPECTED
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2:
        return 1.0
    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return float(_special().chdtrc(table.shape[1] - 1, ((table - expected) ** 2 / expected).sum()))


def _special() -> Any:
    import scipy.special

    return scipy.special


def _log_choose(of: int, some: "np.ndarray") -> "np.ndarray":
    gammaln = _special().gammaln
    chosen: np.ndarray = gammaln(of + 1) - gammaln(some + 1) - gammaln(of - some + 1)
    return chosen
