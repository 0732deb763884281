"""Runs the graphs that training exports with OpenVINO on the CPU; needs no torch."""

import gc
from pathlib import Path

import numpy as np

from inference_svc.engines.base import (
    TOLERANCE,
    EngineUnavailable,
    FloatArray,
    IntArray,
    PackedTexts,
)
from inference_svc.engines.cpu_features import describe_cpu, has_bf16, usable_cores
from inference_svc.engines.memory import trim_heap
from service_kit.telemetry import disable_openvino_telemetry

disable_openvino_telemetry()
import openvino  # noqa: E402
from openvino import opset13 as opset  # noqa: E402

# Padded tokens of a batch. On a CPU core larger batches gain little and make requests wait longer.
BATCH_TOKENS = 1024
_CHECK_SIZE = 64

_PRECISION = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class _CompiledGraph:
    """A compiled graph: arrays in, probabilities out."""

    def __init__(self, compiled: openvino.CompiledModel, number_format: str) -> None:
        self._request = compiled.create_infer_request()
        self.engine = f"openvino {number_format}"
        self.score_tolerance = TOLERANCE[number_format]

    def _infer(self, *arrays: IntArray) -> FloatArray:
        request = self._request
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        request.infer()
        # A copy, because the next batch writes its scores to the same memory.
        scores: FloatArray = request.get_output_tensor(0).data.copy()
        return scores


class OpenVinoClassifier(_CompiledGraph):
    """A graph that takes one text in each row."""

    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See Classifier.run."""
        return self._infer(ids, mask)


class PackingOpenVinoClassifier(_CompiledGraph):
    """A graph that takes several texts in each row."""

    def run_packed(self, texts: PackedTexts) -> FloatArray:
        """See PackingClassifier.run_packed."""
        return self._infer(*texts)


class OpenVinoEngine:
    """Loads exported graphs."""

    batch_tokens = BATCH_TOKENS

    def __init__(self, precision: str, threads: int) -> None:
        self._format = precision
        if precision == "auto":
            self._format = "bf16" if has_bf16() else "fp32"
        self._threads = threads or usable_cores()
        self._core = openvino.Core()

    @property
    def device(self) -> str:
        """See Engine.device."""
        return describe_cpu(self._format, self._threads)

    def enter_thread(self, computes: bool) -> None:
        """See Engine.enter_thread. Nothing to do: `load` sets each graph's number of threads."""

    def load(
        self, weights: Path, graph: Path | None
    ) -> OpenVinoClassifier | PackingOpenVinoClassifier:
        """See Engine.load. The graph brings its own weights, which are mapped into memory."""
        if graph is None:
            raise EngineUnavailable("this version has no OpenVINO graph")
        compiled = self._core.compile_model(
            graph,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": _PRECISION[self._format],
                "INFERENCE_NUM_THREADS": self._threads,
                "NUM_STREAMS": 1,
                # With pinning, two replicas would both run on the first core.
                "ENABLE_CPU_PINNING": False,
                # In entries; each batch shape takes several. With the default of 5,000, fifty
                # shapes kept 44 MB. With 100 they keep 37 MB and are no slower.
                "CPU_RUNTIME_CACHE_CAPACITY": 100,
            },
        )
        if len(compiled.inputs) == len(PackedTexts._fields):
            return PackingOpenVinoClassifier(compiled, self._format)
        return OpenVinoClassifier(compiled, self._format)

    def check(self) -> None:
        """See Engine.check. Each call compiles its graph anew, so that it shares nothing."""
        shape = (_CHECK_SIZE, _CHECK_SIZE)
        parameter = opset.parameter(shape, np.float32)
        product = opset.matmul(parameter, parameter, False, False)
        graph = openvino.Model([product], [parameter], "check")
        compiled = self._core.compile_model(graph, "CPU", {"INFERENCE_NUM_THREADS": 1})
        request = compiled.create_infer_request()
        request.infer({0: np.ones(shape, np.float32)})
        if request.get_output_tensor(0).data[0, 0] != _CHECK_SIZE:
            raise RuntimeError("the processor computes wrong results")

    def release_memory(self) -> None:
        """See Engine.release_memory."""
        gc.collect()
        trim_heap()
