"""Counts of a served version's answers: numbers that only grow, kept on the event loop."""

from collections.abc import Sequence

from inference_svc.metrics.key_buckets import KeyBuckets
from service_kit.histogram import BUCKETS, bucket_of


class AnswerCounts:
    """Counts of one served version since its activation; see mesh.v1.SlotStats.

    `latency` and `compute` are histograms with the buckets of service_kit.histogram.
    """

    def __init__(self, label_names: Sequence[str]) -> None:
        self.label_names = tuple(label_names)
        self.answered = 0
        self.failed = 0
        self.texts = 0
        self.latency = [0] * BUCKETS
        self.compute = [0] * BUCKETS
        self.labels = [0] * len(self.label_names)
        self.latency_ms = 0.0
        """Milliseconds that all answered requests took together."""
        self.compared = 0
        self.agreed = 0
        self.disagreed = 0
        self.not_compared = 0
        self.dealt = KeyBuckets(self.label_names)
        """The requests that Envoy's split dealt to this version."""

    def count_answer(
        self, ms: float, compute_ms: float, labels: Sequence[int], dealt_to: int | None = None
    ) -> None:
        """Add a request; `labels` holds an index into `label_names` for each text.

        `dealt_to` is the key bucket of a request that Envoy's split dealt to this version.
        """
        latency, compute = bucket_of(ms), bucket_of(compute_ms)
        self.answered += 1
        self.texts += len(labels)
        self.latency[latency] += 1
        self.compute[compute] += 1
        self.latency_ms += ms
        for label in labels:
            self.labels[label] += 1
        if dealt_to is not None:
            self.dealt.count_answer(dealt_to, latency, compute, labels)

    def count_failure(self, dealt_to: int | None = None) -> None:
        """Add a request that failed by the server's fault; `dealt_to` as in `count_answer`."""
        self.failed += 1
        if dealt_to is not None:
            self.dealt[dealt_to].failed += 1

    def count_comparison(self, agreed: int, disagreed: int, bucket: int | None = None) -> None:
        """Add a mirrored request; `agreed` and `disagreed` count texts.

        Both the Challenger and the Champion have answered it. `bucket` is the request's key bucket.
        """
        self.compared += 1
        self.agreed += agreed
        self.disagreed += disagreed
        if bucket is not None:
            self.dealt[bucket].agreed += agreed
            self.dealt[bucket].disagreed += disagreed

    def by_label(self) -> dict[str, int]:
        """Texts answered with each label."""
        return dict(zip(self.label_names, self.labels, strict=True))
