"""Engines: what computes a model. Each is imported only when the settings ask for it."""

from inference_svc.engines.base import Classifier, Engine, EngineUnavailable

__all__ = ["Classifier", "Engine", "EngineUnavailable", "create_engine"]


def create_engine(name: str, device: str, precision: str, threads: int) -> Engine:
    """Return the engine `name` on `device`. Raises EngineUnavailable, saying what is missing.

    Imports the engine's library, which takes seconds.
    """
    if name == "torch":
        from inference_svc.engines.torch_engine import TorchEngine

        return TorchEngine(device, precision, threads)
    raise EngineUnavailable(f"there is no engine {name!r}")
