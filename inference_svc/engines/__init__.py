"""Engines: what computes a model. Each is imported only when the settings ask for it."""

import os

from inference_svc.engines.base import Classifier, Engine, EngineUnavailable

__all__ = ["Classifier", "Engine", "EngineUnavailable", "create_engine"]

KEPT_KERNELS = 192


def create_engine(kind: str, device: str, precision: str, threads: int) -> Engine:
    """Return the engine `kind` on `device`. Raises EngineUnavailable, saying what is missing.

    Imports the engine's library, which takes seconds.
    """
    if kind == "torch":
        # Read when torch is loaded. The code that oneDNN keeps takes 1.4 MB a shape and layer; by
        # default a thousand of them stay.
        for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(name, str(KEPT_KERNELS))
        from inference_svc.engines.torch_engine import TorchEngine

        return TorchEngine(device, precision, threads)
    raise EngineUnavailable(f"there is no engine {kind!r}")
