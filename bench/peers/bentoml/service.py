"""BentoML with adaptive batching."""

import os
from typing import Any

import bentoml
from classifier import Classifier


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]),
    traffic={"timeout": 30, "max_concurrency": 1024},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Texts:
    """`{"texts": [...]}` in, a list of `{"label", "score"}` out."""

    def __init__(self) -> None:
        self.classifier = Classifier()

    @bentoml.api(batchable=True, max_batch_size=int(os.environ["BENCH_BATCH"]), max_latency_ms=5000)
    def predict(self, texts: list[str]) -> list[dict[str, Any]]:
        """Texts of several requests come together."""
        return self.classifier(texts)
