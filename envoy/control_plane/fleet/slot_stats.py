"""Numbers about the requests that a version answered, over any time and any replicas."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest


@dataclass(frozen=True)
class SlotStats:
    """See mesh.v1.SlotStats; histograms are those of service_kit.histogram."""

    answered: int = 0
    failed: int = 0
    texts: int = 0
    latency: tuple[int, ...] = ()
    compute: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    compared: int = 0
    agreed: int = 0
    disagreed: int = 0
    not_compared: int = 0

    def __add__(self, other: "SlotStats") -> "SlotStats":
        return self._with(other, 1)

    def __sub__(self, earlier: "SlotStats") -> "SlotStats":
        return self._with(earlier, -1)

    def _with(self, other: "SlotStats", sign: int) -> "SlotStats":
        def histogram(mine: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(a + sign * b for a, b in zip_longest(mine, others, fillvalue=0))

        labels = Counter(self.labels)
        for label, count in other.labels.items():
            labels[label] += sign * count
        return SlotStats(
            answered=self.answered + sign * other.answered,
            failed=self.failed + sign * other.failed,
            texts=self.texts + sign * other.texts,
            latency=histogram(self.latency, other.latency),
            compute=histogram(self.compute, other.compute),
            labels=dict(labels),
            compared=self.compared + sign * other.compared,
            agreed=self.agreed + sign * other.agreed,
            disagreed=self.disagreed + sign * other.disagreed,
            not_compared=self.not_compared + sign * other.not_compared,
        )
