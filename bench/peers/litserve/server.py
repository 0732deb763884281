"""LitServe with dynamic batching."""

import os
from typing import Any

import litserve as ls
from classifier import Classifier


class TextApi(ls.LitAPI):
    """`{"text": …}` in, `{"label", "score"}` out."""

    def setup(self, device: str) -> None:
        """Load, once in each worker."""
        self.classifier = Classifier()

    def decode_request(self, request: dict[str, Any]) -> str:
        """The text of a request."""
        text: str = request["text"]
        return text

    def batch(self, inputs: list[str]) -> list[str]:
        """Texts need no stacking."""
        return list(inputs)

    def predict(self, x: list[str]) -> list[dict[str, Any]]:
        """Compute one batch."""
        return self.classifier(x)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """An answer for each request."""
        return output

    def encode_response(self, output: dict[str, Any]) -> dict[str, Any]:
        """The answer as it is."""
        return output


if __name__ == "__main__":
    api = TextApi(max_batch_size=int(os.environ["BENCH_BATCH"]), batch_timeout=0.005)
    workers = int(os.environ["BENCH_WORKERS"])
    server = ls.LitServer(api, accelerator="cpu", devices=1, workers_per_device=workers)
    server.run(
        host="127.0.0.1",
        port=int(os.environ["BENCH_PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
    )
