"""The golden set: texts by which a version proves that this engine computes what was trained."""

import numpy as np

from inference_svc.model.loaded_model import LoadedModel
from inference_svc.model.model_files import InvalidModel

_GOLDEN_BATCH = 8  # texts


def check_golden_set(model: LoadedModel) -> None:
    """Raise InvalidModel unless the engine gives the answers of the trained model.

    Every label has to agree, and every score within the tolerance of the engine's number format.
    """
    golden = sorted(model.spec.golden, key=lambda entry: len(entry.text))
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
