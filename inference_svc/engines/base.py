"""What an engine has to offer. Batching, tokenising and slots know no more of it than this."""

from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float32]

# How far a probability may lie from its fp32 reference, by number format.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}


class EngineUnavailable(Exception):
    """The engine or device that was asked for is not there."""


class Classifier(Protocol):
    """One loaded model. Used by one thread at a time."""

    @property
    def engine(self) -> str:
        """Engine and number format, for example "torch bf16"."""

    @property
    def score_tolerance(self) -> float:
        """How far a probability may lie from its fp32 reference in this number format."""

    def run(self, ids: IntArray, mask: IntArray) -> FloatArray:
        """Classify one padded batch.

        `ids` and `mask` are [texts, tokens], `mask` 1 for tokens and 0 for padding. Returns
        probabilities [texts, labels], rows summing to 1.
        """


class Engine(Protocol):
    """Loads models for one device."""

    @property
    def device(self) -> str:
        """The device in words, for example "cpu (bf16, 1 thread)"."""

    @property
    def batch_tokens(self) -> int:
        """Tokens a batch, padding included, that suit this engine."""

    def enter_thread(self, computes: bool) -> None:
        """Prepare the calling thread: with all threads to compute, with one to load and check."""

    def load(self, weights: Path, graph: Path | None) -> Classifier:
        """Load a model.

        `weights` is a folder with config.json and model.safetensors; `graph` is the OpenVINO
        graph's XML file, None when the version has none. Raises EngineUnavailable when this
        engine cannot do without what is missing.
        """

    def release_memory(self) -> None:
        """Give what dropped models held back to the system."""
