"""Runs the graphs that training exports with OpenVINO on the CPU; needs no torch."""

import gc
import re
import threading
from pathlib import Path

import numpy as np

from inference_svc.engines.base import (
    TOLERANCE,
    EngineUnavailable,
    FloatArray,
    IntArray,
    MemoryNeed,
    PackedTexts,
    WeightsMissing,
)
from inference_svc.engines.cpu_features import describe_cpu, has_bf16, usable_cores
from inference_svc.engines.mapped_weights import MappedWeights
from inference_svc.engines.memory import return_large_blocks, trim_heap
from inference_svc.engines.working_memory import WorkingMemory
from service_kit.telemetry import disable_openvino_telemetry

disable_openvino_telemetry()
import openvino  # noqa: E402
from openvino import opset13 as opset  # noqa: E402

from inference_svc.engines.graph_memory import ChangedGraph, change  # noqa: E402

# Padded tokens of a batch. On a CPU core larger batches gain little and make requests wait longer.
BATCH_TOKENS = 1024
_CHECK_SIZE = 64

# Bytes of a constant in the graph's XML file.
_SIZE = re.compile(r'<data [^>]*\bsize="(\d+)"')
# Memory of a version, measured with MiniLM: the rearranged weights of its matrix products by their
# bytes in the file, the compiled graph, and what compiling it and the largest batches take besides.
# bf16 was not measured: half of the bytes in up to three layouts.
_COPIES = {"fp32": 1.0, "bf16": 1.5}
_GRAPH_BYTES = 16 << 20
_WORKING_BYTES = 48 << 20

_PRECISION = {"fp32": openvino.Type.f32, "bf16": openvino.Type.bf16}


class _CompiledGraph:
    """A compiled graph: arrays in, probabilities out."""

    def __init__(
        self,
        compiled: openvino.CompiledModel,
        changed: ChangedGraph,
        weights: MappedWeights,
        number_format: str,
        memory: WorkingMemory,
    ) -> None:
        self._compiled = compiled
        self._request = compiled.create_infer_request()
        # The compiled graph points into this file.
        self._weights = weights
        self._table = changed.table
        self._constants = changed.constants
        first = len(compiled.inputs) - len(self._constants)
        for index, constant in enumerate(self._constants, start=first):
            self._request.set_input_tensor(index, openvino.Tensor(constant, shared_memory=True))
        self._memory = memory
        self._computing = threading.Lock()
        self.last_used = 0.0
        self.engine = f"openvino {number_format}"
        self.score_tolerance = TOLERANCE[number_format]

    def _infer(self, *arrays: IntArray) -> FloatArray:
        request = self._request
        with self._computing:
            inputs: list[IntArray | FloatArray] = [*arrays]
            if self._table is not None:
                inputs.append(self._table[arrays[0]])
            for index, array in enumerate(inputs):
                request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
            request.infer()
            # A copy, because the next batch writes its scores to the same memory.
            scores: FloatArray = request.get_output_tensor(0).data.copy()
        self._memory.used(self)
        return scores

    def release_working_memory(self) -> None:
        """See working_memory.Graph."""
        if self._computing.acquire(blocking=False):
            try:
                self._compiled.release_memory()
            finally:
                self._computing.release()

    def release_pages(self) -> None:
        """See working_memory.Graph."""
        self._weights.forget()


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
    reads_graphs = True

    def __init__(self, precision: str, threads: int) -> None:
        self._format = precision
        if precision == "auto":
            self._format = "bf16" if has_bf16() else "fp32"
        self._threads = threads or usable_cores()
        return_large_blocks()
        self._core = openvino.Core()
        self._memory = WorkingMemory()

    @property
    def device(self) -> str:
        """See Engine.device."""
        return describe_cpu(self._format, self._threads)

    def enter_thread(self, computes: bool) -> None:
        """See Engine.enter_thread. Nothing to do: `load` sets each graph's number of threads."""

    def memory_needed(self, weights: Path, graph: Path | None) -> MemoryNeed:
        """See Engine.memory_needed."""
        if graph is None:
            return MemoryNeed(0, 0)
        # The largest constant is the table of word embeddings, which stays in the file.
        sizes = [int(size) for size in _SIZE.findall(graph.read_text(encoding="utf-8"))]
        products = sum(sizes) - max(sizes, default=0)
        return MemoryNeed(int(products * _COPIES[self._format]) + _GRAPH_BYTES, _WORKING_BYTES)

    def load(
        self, weights: Path, graph: Path | None
    ) -> OpenVinoClassifier | PackingOpenVinoClassifier:
        """See Engine.load. The graph brings its own weights, which are mapped into memory."""
        if graph is None:
            raise EngineUnavailable("this version has no OpenVINO graph")
        try:
            mapped = MappedWeights(graph.with_suffix(".bin"))
        except FileNotFoundError as error:
            raise WeightsMissing(f"{graph.with_suffix('.bin').name} is not there") from error
        except (OSError, ValueError) as error:
            raise RuntimeError(f"the graph's weights cannot be read: {error}") from error
        model = self._core.read_model(
            graph.read_text(encoding="utf-8"), openvino.Tensor(mapped.bytes, shared_memory=True)
        )
        packs = len(model.inputs) == len(PackedTexts._fields)
        changed = change(model, mapped, self._format)
        compiled = self._core.compile_model(
            model,
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
        # Rearranged by now; from here on only the pages of small constants are read again.
        mapped.forget()
        kind = PackingOpenVinoClassifier if packs else OpenVinoClassifier
        return kind(compiled, changed, mapped, self._format, self._memory)

    def release_idle(self) -> None:
        """See Engine.release_idle."""
        if self._memory.release_idle():
            trim_heap()

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
