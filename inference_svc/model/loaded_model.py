"""A model version in memory: tokenizer and classifier."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from inference_svc.engines.base import (
    AnyClassifier,
    Classifier,
    FloatArray,
    PackingClassifier,
)
from inference_svc.model.model_files import ModelSpec
from inference_svc.model.packing import blank, lay_out, pack
from inference_svc.model.shapes import padded_texts, padded_tokens
from inference_svc.model.text_tokenizer import TextTokenizer, Tokens


class Computed(NamedTuple):
    """The result of one batch."""

    scores: FloatArray
    """Probabilities [texts, labels]."""
    tokens: int
    """Tokens that the engine computed, padding included."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """All parts of a version that are needed to answer texts."""

    spec: ModelSpec
    pad_id: int
    tokenizer: TextTokenizer
    classifier: AnyClassifier

    @cached_property
    def packs(self) -> bool:
        """Whether the classifier takes several texts in a row."""
        return isinstance(self.classifier, PackingClassifier)

    def run(self, texts: Sequence[Tokens]) -> Computed:
        """Classify one batch.

        Raises ValueError when the model's output is not a probability for each label.
        """
        if isinstance(self.classifier, PackingClassifier):
            computed = self._run_packed(self.classifier, texts)
        else:
            computed = self._run_padded(self.classifier, texts)
        scores = computed.scores
        if scores.shape != (len(texts), len(self.spec.labels)):
            raise ValueError(f"{len(self.spec.labels)} labels, but scores of shape {scores.shape}")
        if not np.isfinite(scores).all():
            raise ValueError("the model's scores are not finite")
        return computed

    def warm_up(self, rows: int, tokens: int) -> None:
        """Run a batch of padding, so that the engine makes its code for this shape."""
        if isinstance(self.classifier, PackingClassifier):
            self.classifier.run_packed(blank(rows, tokens))
        else:
            ids = np.full((rows, tokens), self.pad_id, dtype=np.int64)
            self.classifier.run(ids, np.ones_like(ids))

    def _run_packed(self, classifier: PackingClassifier, texts: Sequence[Tokens]) -> Computed:
        layout = lay_out([len(text.ids) for text in texts])
        packed = pack([text.ids for text in texts], layout, self.pad_id)
        return Computed(classifier.run_packed(packed)[: len(texts)], layout.rows * layout.tokens)

    def _run_padded(self, classifier: Classifier, texts: Sequence[Tokens]) -> Computed:
        lengths = [len(text.ids) for text in texts]
        shape = padded_texts(len(texts)), padded_tokens(max(lengths), self.spec.max_tokens)
        ids = np.full(shape, self.pad_id, dtype=np.int64)
        # An empty row gets one token: attention to no token at all is not a number.
        used = np.array(lengths + [1] * (shape[0] - len(texts)))
        mask = (np.arange(shape[1]) < used[:, np.newaxis]).astype(np.int64)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = text.ids
        return Computed(classifier.run(ids, mask)[: len(texts)], shape[0] * shape[1])
