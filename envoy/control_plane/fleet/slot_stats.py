"""Numbers about the requests that a split dealt to a version, over any time and any replicas."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import starmap, zip_longest
from operator import add, sub

Histogram = tuple[int, ...]
"""Counts by the buckets of service_kit.histogram; zeros at the end may be missing."""


@dataclass(frozen=True)
class KeyBucket:
    """Numbers about the requests whose keys have one hash; see mesh.v1.KeyBucket."""

    answered: int = 0
    failed: int = 0
    latency: Histogram = ()
    compute: Histogram = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    agreed: int = 0
    disagreed: int = 0

    @cached_property
    def texts(self) -> int:
        """Texts answered."""
        return sum(self.labels.values())

    def plus(self, other: "KeyBucket", times: int = 1) -> "KeyBucket":
        """Return the numbers of both together; `times` = -1 takes the other's away."""
        change = add if times == 1 else sub
        mine, others = self.labels, other.labels
        if [*mine] == [*others]:
            labels = dict(zip(mine, map(change, mine.values(), others.values()), strict=True))
        else:
            names = (*mine, *(name for name in others if name not in mine))
            labels = {name: change(mine.get(name, 0), others.get(name, 0)) for name in names}
        return KeyBucket(
            self.answered + times * other.answered,
            self.failed + times * other.failed,
            _changed(self.latency, other.latency, change),
            _changed(self.compute, other.compute, change),
            labels,
            self.agreed + times * other.agreed,
            self.disagreed + times * other.disagreed,
        )


NOTHING = KeyBucket()


@dataclass(frozen=True)
class SlotStats:
    """Numbers of one version by key bucket: all requests of one key are in one bucket, so buckets
    are independent of each other where requests are not."""

    buckets: tuple[KeyBucket, ...] = ()
    not_compared: int = 0
    """Mirrored requests that were not compared for want of time."""

    @cached_property
    def total(self) -> KeyBucket:
        """The numbers of all buckets together."""
        buckets, labels = self.buckets, Counter[str]()
        for bucket in buckets:
            labels.update(bucket.labels)
        return KeyBucket(
            sum(bucket.answered for bucket in buckets),
            sum(bucket.failed for bucket in buckets),
            _summed([bucket.latency for bucket in buckets]),
            _summed([bucket.compute for bucket in buckets]),
            labels,
            sum(bucket.agreed for bucket in buckets),
            sum(bucket.disagreed for bucket in buckets),
        )

    def __add__(self, other: "SlotStats") -> "SlotStats":
        return self._with(other, 1)

    def __sub__(self, earlier: "SlotStats") -> "SlotStats":
        return self._with(earlier, -1)

    def _with(self, other: "SlotStats", times: int) -> "SlotStats":
        pairs = zip_longest(self.buckets, other.buckets, fillvalue=NOTHING)
        return SlotStats(
            tuple(mine.plus(theirs, times) for mine, theirs in pairs),
            self.not_compared + times * other.not_compared,
        )


def _summed(histograms: Sequence[Histogram]) -> Histogram:
    return tuple(map(sum, zip_longest(*histograms, fillvalue=0)))


def _changed(mine: Histogram, others: Histogram, change: Callable[[int, int], int]) -> Histogram:
    return tuple(starmap(change, zip_longest(mine, others, fillvalue=0)))
