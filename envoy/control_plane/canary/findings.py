"""The tests of a look at the live numbers, put into words; pure.

`shares` are the chances with which Envoy may deal a key to the Challenger; `limit` is the largest
p-value that counts as proof.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from control_plane.canary.by_keys import Cell, drifted, more_often, more_than, slower
from control_plane.fleet.slot_stats import SlotStats
from service_kit.histogram import quantile_bucket, quantile_ms


@dataclass(frozen=True)
class Finding:
    """The result of one test. `p_value` is the chance of such numbers from an equal Challenger."""

    criterion: str
    p_value: float
    p_value_limit: float
    material: bool
    """The difference is large enough to matter."""

    detail: str

    @property
    def failed(self) -> bool:
        """Whether the difference matters and cannot be chance."""
        return self.material and self.p_value <= self.p_value_limit


def errors(
    champion: SlotStats, challenger: SlotStats, shares: Sequence[float], limit: float
) -> Finding:
    """Test whether the Challenger fails more often."""

    def cells(side: SlotStats) -> Iterator[Cell]:
        return (Cell(one.failed, one.answered + one.failed) for one in side.buckets)

    p_value = more_often(cells(challenger), cells(champion), shares)
    detail = " against ".join(
        f"{side.failed:,} of {side.answered + side.failed:,}{verb}"
        for side, verb in ((challenger.total, " failed"), (champion.total, ""))
    )
    return Finding("errors", p_value, limit, True, detail)


def agreement(challenger: SlotStats, allowed: float, limit: float) -> Iterator[Finding]:
    """Test whether the Challenger disagrees with the Champion more often than `allowed`."""
    disagreed = challenger.total.disagreed
    texts = challenger.total.agreed + disagreed
    if not texts:
        return
    cells = (Cell(one.disagreed, one.agreed + one.disagreed) for one in challenger.buckets)
    p_value = more_than(cells, allowed)
    detail = (
        f"{disagreed:,} of {texts:,} mirrored texts ({disagreed / texts:.1%})"
        f" answered differently, {allowed:.1%} allowed"
    )
    yield Finding("agreement", p_value, limit, disagreed > allowed * texts, detail)


def drift(
    champion: SlotStats,
    challenger: SlotStats,
    shares: Sequence[float],
    allowed: float,
    limit: float,
) -> Iterator[Finding]:
    """Test whether the labels differ by more than `allowed`, a share of the texts."""
    mine, theirs = challenger.total, champion.total
    if not mine.texts or not theirs.texts:
        return
    # The distance is never larger than the share of texts that the two would answer differently.
    distance = 0.5 * sum(
        abs(mine.labels.get(name, 0) / mine.texts - theirs.labels.get(name, 0) / theirs.texts)
        for name in mine.labels.keys() | theirs.labels.keys()
    )
    p_value = drifted(challenger.buckets, champion.buckets, shares)
    detail = f"labels {distance:.1%} apart"
    yield Finding("label drift", p_value, limit, distance > allowed, detail)


def latency(
    champion: SlotStats,
    challenger: SlotStats,
    tolerated: int,
    shares: Sequence[float],
    limit: float,
) -> Iterator[Finding]:
    """Test the median and the tail; `tolerated` is in buckets of service_kit.histogram."""
    times = [[bucket.latency for bucket in side.buckets] for side in (challenger, champion)]
    compute = [[bucket.compute for bucket in side.buckets] for side in (challenger, champion)]
    totals = (challenger.total, champion.total)
    for criterion, (mine, others), sides in (
        ("latency", times, [side.latency for side in totals]),
        ("computation", compute, [side.compute for side in totals]),
    ):
        medians = " against ".join(f"{quantile_ms(side, 0.5):.1f} ms" for side in sides)
        p_value = slower(mine, others, tolerated, shares)
        yield Finding(criterion, p_value, limit, True, f"median {criterion} {medians}")
    yield _tail(champion, challenger, tolerated, shares, limit)


def _tail(
    champion: SlotStats,
    challenger: SlotStats,
    tolerated: int,
    shares: Sequence[float],
    limit: float,
) -> Finding:
    # The bound of slow requests is the p99 of both sides together: a bound from one side alone
    # would favour that side.
    slow = quantile_bucket(champion.total.plus(challenger.total).latency, 0.99) + 1

    def cells(side: SlotStats) -> Iterator[Cell]:
        return (Cell(sum(one.latency[slow:]), one.answered) for one in side.buckets)

    p_value = more_often(cells(challenger), cells(champion), shares)
    times, others = challenger.total.latency, champion.total.latency
    worse = quantile_bucket(times, 0.99) - quantile_bucket(others, 0.99)
    compared = f"{quantile_ms(times, 0.99):.1f} ms against {quantile_ms(others, 0.99):.1f} ms"
    material = worse >= tolerated
    return Finding("tail latency", p_value, limit, material, f"p99 latency {compared}")
