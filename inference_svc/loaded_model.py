"""A model version in memory: tokenizer and classifier."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

import numpy as np
from tokenizers import Tokenizer

from inference_svc.engines.base import Classifier, FloatArray
from inference_svc.model_files import InvalidModel, ModelSpec
from inference_svc.shapes import padded_texts, padded_tokens


class Tokens(NamedTuple):
    """One tokenised text."""

    ids: list[int]
    truncated: bool


class TextTokenizer:
    """A fast tokenizer that cuts at `max_tokens`. Any thread may use it."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises nothing narrower
            raise InvalidModel(f"{path.name} cannot be read: {error}") from error
        # Once for good: changing it per call fails with "Already borrowed" under load.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_tokens)

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise; the order is kept."""
        encodings = self._tokenizer.encode_batch_fast(texts)
        return [Tokens(encoding.ids, bool(encoding.overflowing)) for encoding in encodings]


class Tokenizers:
    """Loads tokenizers; those in memory are found again by what their files hold.

    Versions of a model mostly share one. The library loads a file with the interpreter's lock
    held: on a thread of idle priority that stopped every request for 0.1 s and more.
    """

    def __init__(self) -> None:
        self._in_memory: WeakValueDictionary[tuple[bytes, int], TextTokenizer] = (
            WeakValueDictionary()
        )

    def load(self, path: Path, max_tokens: int) -> TextTokenizer:
        """The tokenizer of a file. Raises InvalidModel."""
        key = hashlib.sha256(path.read_bytes()).digest(), max_tokens
        found = self._in_memory.get(key)
        if found is None:
            found = self._in_memory[key] = TextTokenizer(path, max_tokens)
        return found


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Everything that it takes to answer texts."""

    spec: ModelSpec
    pad_id: int
    tokenizer: TextTokenizer
    classifier: Classifier
    shapes: set[tuple[int, int]] = field(default_factory=set)
    """Texts and tokens of the batches so far, padded; versions of a model may share the set."""

    def run(self, texts: Sequence[Tokens]) -> FloatArray:
        """Pad and classify one batch; returns probabilities [texts, labels].

        Raises ValueError when the model's output is not a probability for each label.
        """
        lengths = [len(text.ids) for text in texts]
        longest = max(lengths)
        shape = padded_texts(len(texts)), padded_tokens(longest, self.spec.max_tokens)
        self.shapes.add(shape)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        # Of an empty row one token counts: attention to nothing at all is not a number.
        used = np.array(lengths + [1] * (shape[0] - len(texts)))
        mask = (np.arange(shape[1]) < used[:, np.newaxis]).astype(np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = text.ids
        scores = self.classifier.run(ids, mask)[: len(texts)]
        if scores.shape != (len(texts), len(self.spec.labels)):
            raise ValueError(f"{len(self.spec.labels)} labels, but scores of shape {scores.shape}")
        if not np.isfinite(scores).all():
            raise ValueError("the model's scores are not finite")
        return scores
