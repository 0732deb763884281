"""The interface of an engine; batching, tokenising and slots use nothing else of it."""

from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray

IntArray: TypeAlias = NDArray[np.int64]
FloatArray: TypeAlias = NDArray[np.float32]

# How far a probability may lie from its fp32 reference, by number format.
TOLERANCE = {"fp32": 1e-3, "bf16": 0.05}


class EngineUnavailable(Exception):
    """The engine or device that the settings name is not there."""


class WeightsMissing(Exception):
    """A version's folder lacks the file of weights that this engine reads; others may be there."""


class MemoryNeed(NamedTuple):
    """Estimate of the memory that a model takes, in bytes; pages of files do not count."""

    held: int
    """As long as the model is loaded."""
    working: int
    """Besides, while it is loaded and while it computes."""


class PackedTexts(NamedTuple):
    """A batch with several texts in a row; see packing.py."""

    ids: IntArray
    """Token ids [rows, tokens]."""
    numbers: IntArray
    """Number of the text that each token belongs to [rows, tokens], from 1; 0 for padding."""
    positions: IntArray
    """Position of each token in its text [rows, tokens], from 0."""
    first: IntArray
    """Index of each text's first token in the flattened rows [texts]."""


class Classifier(Protocol):
    """One loaded model that takes one text in each row. Used by one thread at a time."""

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


@runtime_checkable
class PackingClassifier(Protocol):
    """One loaded model that takes several texts in each row. Used by one thread at a time."""

    @property
    def engine(self) -> str:
        """See Classifier."""

    @property
    def score_tolerance(self) -> float:
        """See Classifier."""

    def run_packed(self, texts: PackedTexts) -> FloatArray:
        """Classify one batch; returns probabilities [texts, labels], rows summing to 1."""


AnyClassifier: TypeAlias = Classifier | PackingClassifier


class Engine(Protocol):
    """Loads models for one device."""

    @property
    def device(self) -> str:
        """The device in words, for example "cpu (bf16, 1 thread)"."""

    @property
    def batch_tokens(self) -> int:
        """Tokens, padding included, at which a batch suits this engine."""

    @property
    def reads_graphs(self) -> bool:
        """Whether it loads a version by its OpenVINO graph, if there is one, not by the weights."""

    def enter_thread(self, computes: bool) -> None:
        """Prepare the calling thread.

        A thread that computes uses all of the engine's threads; one that loads and checks versions
        uses a single one.
        """

    def load(self, weights: Path, graph: Path | None) -> AnyClassifier:
        """Load a model.

        `weights` is a folder with config.json and model.safetensors; `graph` is the OpenVINO
        graph's XML file, None when the version has none. Raises EngineUnavailable when this
        engine needs the graph and there is none, and WeightsMissing.
        """

    def check(self) -> None:
        """Compute something small on the device; raises an error when the device does not.

        Any thread may call it.
        """

    def memory_needed(self, weights: Path, graph: Path | None) -> MemoryNeed:
        """Estimate what `load` with the same arguments takes. Raises OSError."""

    def release_memory(self) -> None:
        """Give the memory of models that were let go back to the system."""

    def release_idle(self) -> None:
        """Give memory back that models need only while they compute, if they have not lately.

        Any thread may call it.
        """
