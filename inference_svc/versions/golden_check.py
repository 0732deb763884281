"""The golden set: texts by which a version proves that this engine computes what was trained."""

from collections.abc import Sequence

import numpy as np

from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import GoldenText, InvalidModel

_GOLDEN_BATCH = 8  # texts


def check_still_works(model: LoadedModel) -> None:
    """Raise an error unless the engine computes what it computed when the version was loaded.

    A few golden texts, short ones and long ones, or any text when there are none.
    """
    golden = sorted(model.spec.golden, key=lambda entry: len(entry.text))
    if golden:
        step = -(-len(golden) // _GOLDEN_BATCH)
        _check(model, [*golden[:-1:step], golden[-1]])
    else:
        model.run(model.tokenizer.encode(["a"]))


def check_golden_set(model: LoadedModel) -> None:
    """Raise InvalidModel unless the engine gives the answers of the trained model.

    Every label has to agree, and every score within the tolerance of the engine's number format.
    A version without golden texts has to compute, at least.
    """
    model.run(model.tokenizer.encode(["a"]))
    _check(model, sorted(model.spec.golden, key=lambda entry: len(entry.text)))


def _check(model: LoadedModel, golden: Sequence[GoldenText]) -> None:
    tolerance = model.classifier.score_tolerance
    for start in range(0, len(golden), _GOLDEN_BATCH):
        part = golden[start : start + _GOLDEN_BATCH]
        scores = model.run(model.tokenizer.encode([entry.text for entry in part])).scores
        for entry, row in zip(part, scores, strict=True):
            label = model.spec.labels[int(row.argmax())]
            shown = entry.text[:60]
            if label != entry.label:
                raise InvalidModel(f"{shown!r} gave {label!r}, not {entry.label!r}")
            if len(entry.scores) != len(row):
                raise InvalidModel(f"{shown!r} has {len(entry.scores)} scores, not {len(row)}")
            off = float(np.abs(row - np.asarray(entry.scores)).max())
            if off > tolerance:
                raise InvalidModel(
                    f"{shown!r} scored {off:.4f} off its reference; {tolerance} is allowed"
                )
