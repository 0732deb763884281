"""Runs Hugging Face sequence classifiers with torch, on the CPU or on CUDA."""

import gc
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification
from transformers.utils import logging as transformers_logging

from inference_svc.engines.base import (
    TOLERANCE,
    EngineUnavailable,
    FloatArray,
    IntArray,
    MemoryNeed,
    WeightsMissing,
)
from inference_svc.engines.cpu_features import describe_cpu, has_bf16, usable_cores
from inference_svc.engines.memory import trim_heap

# Padded tokens of a batch. On a CPU core larger batches gain little and make requests wait longer.
CPU_BATCH_TOKENS = 1024
CUDA_BATCH_TOKENS = 16_384

_CHECK_SIZE = 64
# Memory besides the weights: the modules of a model, and what the largest batches take.
_MODULE_BYTES = 16 << 20
_WORKING_BYTES = 48 << 20

_FORMAT = {torch.float32: "fp32", torch.bfloat16: "bf16"}


class TorchClassifier:
    """A loaded sequence classifier."""

    def __init__(self, model: torch.nn.Module, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model
        self._device = device
        self.engine = f"torch {_FORMAT[dtype]}"
        self.score_tolerance = TOLERANCE[_FORMAT[dtype]]

    @torch.inference_mode()
    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """See Classifier.run."""
        logits: torch.Tensor = self._model(
            input_ids=torch.from_numpy(ids).to(self._device),
            attention_mask=torch.from_numpy(mask).to(self._device),
        ).logits
        scores: FloatArray = logits.float().softmax(-1).cpu().numpy()
        return scores


class TorchEngine:
    """Loads sequence classifiers with transformers."""

    reads_graphs = False

    def __init__(self, device: str, precision: str, threads: int) -> None:
        self._device = _find_device(device)
        self._dtype = _choose_dtype(self._device, precision)
        self._threads = threads or usable_cores()
        self._cuda = self._device.type == "cuda"
        self.batch_tokens = CUDA_BATCH_TOKENS if self._cuda else CPU_BATCH_TOKENS
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

    @property
    def device(self) -> str:
        """See Engine.device."""
        number_format = _FORMAT[self._dtype]
        if self._cuda:
            return f"{self._device} ({torch.cuda.get_device_name(self._device)}, {number_format})"
        return describe_cpu(number_format, self._threads)

    def enter_thread(self, computes: bool) -> None:
        """See Engine.enter_thread. OpenMP keeps a number of threads for each calling thread."""
        torch.set_num_threads(self._threads if computes else 1)

    def memory_needed(self, weights: Path, graph: Path | None = None) -> MemoryNeed:
        """See Engine.memory_needed. On CUDA the weights are on the device after loading."""
        in_fp32 = sum(file.stat().st_size for file in weights.glob("*.safetensors"))
        loaded = in_fp32 * self._dtype.itemsize // torch.float32.itemsize
        if self._cuda:
            return MemoryNeed(_MODULE_BYTES, loaded)
        return MemoryNeed(loaded + _MODULE_BYTES, _WORKING_BYTES)

    def load(self, weights: Path, graph: Path | None = None) -> TorchClassifier:
        """See Engine.load. Reads safetensors only, never pickle, and not the graph."""
        if not any(weights.glob("*.safetensors")):
            raise WeightsMissing(f"no safetensors are in {weights.name}")
        model = AutoModelForSequenceClassification.from_pretrained(
            weights,
            dtype=self._dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
        model.eval().requires_grad_(False).to(self._device)
        return TorchClassifier(model, self._device, self._dtype)

    def check(self) -> None:
        """See Engine.check. After some errors CUDA fails every call until the process ends."""
        ones = torch.ones(_CHECK_SIZE, _CHECK_SIZE, device=self._device, dtype=self._dtype)
        if float((ones @ ones)[0, 0]) != _CHECK_SIZE:
            raise RuntimeError(f"{self._device} computes wrong results")

    def release_memory(self) -> None:
        """See Engine.release_memory."""
        gc.collect()
        if self._cuda:
            torch.cuda.empty_cache()
        trim_heap()

    def release_idle(self) -> None:
        """See Engine.release_idle. Nothing to do: torch frees what a batch took when it ends."""


def _find_device(wanted: str) -> torch.device:
    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    device = torch.device("cuda:0" if wanted in ("auto", "cuda") else wanted)
    if device.index is None or device.index >= torch.cuda.device_count():
        raise EngineUnavailable(
            f"device {wanted!r} is not there: torch {torch.__version__} sees "
            f"{torch.cuda.device_count()} CUDA devices"
        )
    return device


def _choose_dtype(device: torch.device, precision: str) -> torch.dtype:
    if precision == "auto":
        fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bf16()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32
