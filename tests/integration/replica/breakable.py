"""A real engine that breaks when a test says so; as a program, a replica with such an engine.

`python -m tests.integration.replica.breakable FOLDER`: serves version 1 of `reviews` and `films`,
whose files are in FOLDER/files, and breaks as the files in FOLDER say.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference_svc.engines.base import AnyClassifier, Engine
from inference_svc.engines.choice import create_engine
from inference_svc.main import REFLECTED
from inference_svc.service import InferenceService
from inference_svc.settings import InferenceSettings
from service_kit.model_registry.records import CHAMPION, SERVING
from service_kit.server import run
from tests.twins.replica import FakeRegistry

MODELS = ("films", "reviews")


@dataclass(frozen=True)
class Breaks:
    """What is broken: a file for each fault, in a folder of the test's own."""

    folder: Path

    def set(self, fault: str, broken: bool = True) -> None:
        """Break something, or mend it: "device", "hang", or the name of a model."""
        if broken:
            (self.folder / fault).touch()
        else:
            (self.folder / fault).unlink()

    def has(self, fault: str) -> bool:
        """Whether this is broken."""
        return (self.folder / fault).exists()


class BreakableEngine:
    """Computes with a real engine until something is broken."""

    def __init__(self, engine: Engine, breaks: Breaks) -> None:
        self._engine = engine
        self._breaks = breaks
        self.device = engine.device
        self.batch_tokens = engine.batch_tokens
        self.enter_thread = engine.enter_thread
        self.reads_graphs = engine.reads_graphs
        self.memory_needed = engine.memory_needed
        self.release_memory = engine.release_memory
        self.release_idle = engine.release_idle

    def load(self, weights: Path, graph: Path | None) -> AnyClassifier:
        # <cache>/<model>/<version>/model
        model = weights.parent.parent.name
        classifier: Any = self._engine.load(weights, graph)
        method = "run_packed" if hasattr(classifier, "run_packed") else "run"
        compute = getattr(classifier, method)

        def breakable(*arguments: Any) -> Any:
            self._meet_faults(model)
            return compute(*arguments)

        setattr(classifier, method, breakable)
        broken: AnyClassifier = classifier
        return broken

    def check(self) -> None:
        self._meet_faults("device")
        self._engine.check()

    def _meet_faults(self, name: str) -> None:
        while self._breaks.has("hang"):
            time.sleep(0.01)
        if self._breaks.has("device") or self._breaks.has(name):
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")


def main() -> None:
    folder = Path(sys.argv[1])
    registry = FakeRegistry()
    for model in MODELS:
        registry.add(model, "1", folder / "files", CHAMPION, SERVING)
    settings = InferenceSettings()

    def make_service() -> InferenceService:
        engine = create_engine("auto", "cpu", "auto", threads=1)
        return InferenceService(settings, BreakableEngine(engine, Breaks(folder)), lambda: registry)

    run("inference", settings, make_service, REFLECTED)


if __name__ == "__main__":
    main()
