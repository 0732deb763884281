"""Metrics of a replica for Prometheus; those of each slot are in serving/slot_collector.py."""

from prometheus_client import Counter, Gauge, Histogram

QUEUED_TEXTS = Gauge("mesh_queued_texts", "Texts that wait or run.")
BATCH_TEXTS = Histogram(
    "mesh_batch_texts", "Texts a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
PAD_WASTE = Histogram(
    "mesh_batch_pad_waste",
    "Share of a batch's tokens that is padding.",
    buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0),
)
COMPUTE_SECONDS = Histogram(
    "mesh_compute_seconds",
    "Computation of one batch.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
SERVED_VERSION = Gauge(
    "mesh_served_version_info", "1 for each served version.", ("model", "role", "version")
)
PREPARE_SECONDS = Histogram(
    "mesh_prepare_seconds",
    "Preparation of a version, by outcome.",
    ("outcome",),
    buckets=(0.5, 1, 2.5, 5, 10, 30, 60, 300),
)
# computation: one computation of a batch or a part of it; text: a single text, while others work;
# model: a model computed nothing any more; replica: the replica as a whole could not compute.
ENGINE_FAILURES = Counter(
    "mesh_engine_failures", "Failures of the engine, by what they concern.", ("kind",)
)
TROUBLE = Gauge("mesh_replica_trouble", "1 while the replica as a whole cannot compute.")
