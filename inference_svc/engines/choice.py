"""Chooses the engine of a replica; an engine's library is imported only when it is chosen."""

import os

from inference_svc.engines.base import Engine, EngineUnavailable
from inference_svc.engines.cuda_probe import has_cuda
from inference_svc.engines.openvino_or_torch import OpenVinoOrTorchEngine

# Pieces of compiled code that oneDNN keeps for torch: one takes 1.4 MB for each shape and layer,
# and by default it keeps a thousand.
KEPT_KERNELS = 192


def create_engine(kind: str, device: str, precision: str, threads: int) -> Engine:
    """Return the engine `kind` on `device`. Raises EngineUnavailable, saying what is missing.

    `auto` is OpenVINO on a CPU, with torch for versions without a graph, and torch on CUDA.
    Imports the engine's library, which takes half a second (OpenVINO) or several (torch).
    """
    on_cpu = device == "cpu" or (device == "auto" and not has_cuda())
    if kind == "torch" or (kind == "auto" and not on_cpu):
        return _torch_engine(device, precision, threads)
    if kind not in ("auto", "openvino"):
        raise EngineUnavailable(f"there is no engine {kind!r}")
    if kind == "openvino" and device not in ("auto", "cpu"):
        raise EngineUnavailable(f"openvino computes on the CPU, not on {device!r}")
    from inference_svc.engines.openvino_engine import OpenVinoEngine

    openvino = OpenVinoEngine(precision, threads)
    if kind == "openvino":
        return openvino
    return OpenVinoOrTorchEngine(openvino, lambda: _torch_engine("cpu", precision, threads))


def _torch_engine(device: str, precision: str, threads: int) -> Engine:
    # torch reads these variables when it is imported.
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(KEPT_KERNELS))
    try:
        from inference_svc.engines.torch_engine import TorchEngine
    except ModuleNotFoundError as error:
        raise EngineUnavailable(
            f"{error.name} is not installed here, and without it only versions with an OpenVINO "
            "graph can be served, on a CPU"
        ) from error

    return TorchEngine(device, precision, threads)
