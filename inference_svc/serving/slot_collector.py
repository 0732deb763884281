"""Counts of the served versions for Prometheus; they are read when it asks, not at each request."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from inference_svc.serving.slots import Slots
from service_kit.histogram import PER_DOUBLING, upper_ms

LABELS = ("model", "alias", "version")


class SlotCollector(Collector):
    """Labels every count with model, alias and version. Counts begin anew at each activation."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots

    def describe(self) -> list[Metric]:
        """No names in advance, so that tests can run several replicas in one process."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics; called by a thread of the Prometheus client."""
        answers = CounterMetricFamily("mesh_answered_requests", "Requests answered.", labels=LABELS)
        failures = CounterMetricFamily(
            "mesh_failed_requests", "Requests failed by the server's fault.", labels=LABELS
        )
        seconds = HistogramMetricFamily(
            "mesh_answer_seconds", "Time of a request in the replica.", labels=LABELS
        )
        texts = CounterMetricFamily(
            "mesh_answered_texts", "Texts answered, by label.", labels=(*LABELS, "label")
        )
        compared = CounterMetricFamily(
            "mesh_compared_texts",
            "Mirrored texts by whether Challenger and Champion agree.",
            labels=(*LABELS, "outcome"),
        )
        withdrawn = GaugeMetricFamily(
            "mesh_withdrawn_version", "1 while a served version does not answer.", labels=LABELS
        )
        for served in self._slots.all_served():
            stats = served.stats
            labels = (served.slot.model, served.slot.alias, served.version)
            withdrawn.add_metric(labels, 1.0 if served.withdrawn else 0.0)
            answers.add_metric(labels, stats.answered)
            failures.add_metric(labels, stats.failed)
            seconds.add_metric(labels, _buckets(stats.latency), stats.latency_ms / 1e3)
            for name, count in stats.by_label().items():
                texts.add_metric((*labels, name), count)
            if stats.compared:
                compared.add_metric((*labels, "agreed"), stats.agreed)
                compared.add_metric((*labels, "disagreed"), stats.disagreed)
        yield from (answers, failures, seconds, texts, compared, withdrawn)


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    """Cumulative counts with upper bounds in seconds, each bound twice the one before."""
    total = list(accumulate(counts))
    bounds = range(0, len(counts) - 1, PER_DOUBLING)
    buckets = [(f"{upper_ms(bucket) / 1e3:g}", float(total[bucket])) for bucket in bounds]
    return [*buckets, ("+Inf", float(total[-1]))]
