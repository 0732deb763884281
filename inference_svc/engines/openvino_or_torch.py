"""The engine for a CPU: OpenVINO for versions with a graph, torch for the others."""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from inference_svc.engines.base import (
    AnyClassifier,
    Classifier,
    Engine,
    FloatArray,
    IntArray,
    MemoryNeed,
    PackingClassifier,
)

log = logging.getLogger(__name__)


class _EnteringClassifier:
    """A classifier of torch, which is imported after the compute thread has started.

    The compute thread could not enter the engine when it started: it does before its first batch.
    """

    def __init__(self, classifier: Classifier, enter_thread: Callable[[], None]) -> None:
        self._classifier = classifier
        self._enter_thread = enter_thread
        self.engine = classifier.engine
        self.score_tolerance = classifier.score_tolerance

    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See Classifier.run."""
        self._enter_thread()
        return self._classifier.run(ids, mask)


class OpenVinoOrTorchEngine:
    """Loads a version's graph with OpenVINO; without a usable graph, loads the weights with torch.

    torch is imported when the first version needs it.
    """

    reads_graphs = True

    def __init__(self, openvino: Engine, make_torch: Callable[[], Engine]) -> None:
        self._openvino = openvino
        self._make_torch = make_torch
        self._torch: Engine | None = None
        self._thread = threading.local()
        self.batch_tokens = openvino.batch_tokens

    @property
    def device(self) -> str:
        """See Engine.device."""
        return self._openvino.device

    def enter_thread(self, computes: bool) -> None:
        """See Engine.enter_thread."""
        self._openvino.enter_thread(computes)
        self._thread.computes = computes
        self._thread.entered = None

    def memory_needed(self, weights: Path, graph: Path | None) -> MemoryNeed:
        """See Engine.memory_needed."""
        if graph is not None:
            return self._openvino.memory_needed(weights, graph)
        return self._torch_engine().memory_needed(weights, None)

    def load(self, weights: Path, graph: Path | None) -> AnyClassifier:
        """See Engine.load."""
        if graph is not None:
            try:
                return self._openvino.load(weights, graph)
            except RuntimeError as error:
                # Exported for a later OpenVINO, for example. torch is slower, but serves it.
                why = str(error).strip().splitlines()[-1]
                log.warning("the graph cannot be loaded; torch runs the model", extra={"why": why})
        torch = self._torch_engine()
        self._enter(torch)
        classifier = torch.load(weights, None)
        assert not isinstance(classifier, PackingClassifier)
        return _EnteringClassifier(classifier, lambda: self._enter(torch))

    def _torch_engine(self) -> Engine:
        if self._torch is None:
            self._torch = self._make_torch()
        return self._torch

    def _enter(self, engine: Engine) -> None:
        if getattr(self._thread, "entered", None) is not engine:
            engine.enter_thread(getattr(self._thread, "computes", False))
            self._thread.entered = engine

    def check(self) -> None:
        """See Engine.check."""
        (self._torch or self._openvino).check()

    def release_memory(self) -> None:
        """See Engine.release_memory."""
        (self._torch or self._openvino).release_memory()

    def release_idle(self) -> None:
        """See Engine.release_idle."""
        self._openvino.release_idle()
