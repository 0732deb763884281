"""Ray Serve with dynamic batching; runs until it is stopped."""

import os
import signal
import threading
from typing import Any

import ray
from classifier import Classifier
from ray import serve
from starlette.requests import Request

WORKERS = int(os.environ["BENCH_WORKERS"])
BATCH = int(os.environ["BENCH_BATCH"])


@serve.deployment(
    num_replicas=WORKERS,
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 0.5},
)
class TextModel:
    """`{"text": …}` in, `{"label", "score"}` out."""

    def __init__(self) -> None:
        self.classifier = Classifier()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=0.005)
    async def classify(self, texts: list[str]) -> list[dict[str, Any]]:
        """Compute one batch."""
        return self.classifier(texts)

    async def __call__(self, request: Request) -> dict[str, Any]:
        """Answer one request."""
        answer: dict[str, Any] = await self.classify((await request.json())["text"])
        return answer


if __name__ == "__main__":
    ray.init(include_dashboard=False, num_cpus=2, object_store_memory=200 * 2**20)
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    serve.run(TextModel.bind(), route_prefix="/predict")
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()
