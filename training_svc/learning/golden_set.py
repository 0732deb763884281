"""The golden set: texts by which a replica proves that it computes what was trained."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from training_svc.learning.evaluate import Evaluation

GOLDEN_FILE = "golden.json"
GOLDEN_TEXTS = 32
CLEAR_MARGIN = 0.1  # least lead of the top score, so that rounding cannot change the label


def golden_set(texts: Sequence[str], evaluation: Evaluation) -> list[dict[str, Any]]:
    """At most GOLDEN_TEXTS held-out texts with a clear prediction, the labels taking turns."""
    clear: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for text, label, scores in zip(
        texts, evaluation.predictions, evaluation.probabilities, strict=True
    ):
        first, second = sorted(scores, reverse=True)[:2]
        if first - second >= CLEAR_MARGIN:
            clear[label].append({"text": text, "label": label, "scores": scores})
    columns = [clear[label] for label in evaluation.label_names]
    in_turn = [entry for row in zip_longest(*columns) for entry in row if entry is not None]
    return in_turn[:GOLDEN_TEXTS]


def write_golden(
    folder: Path,
    texts: Sequence[str],
    evaluation: Evaluation,
    max_tokens: int,
    base_model: str,
    graph: Mapping[str, str] | None = None,
) -> Path:
    """Write golden.json and return its path. Scores are probabilities in fp32, label by label.

    `graph` is what openvino_graph.try_export returned, None if the export failed.
    """
    path = folder / GOLDEN_FILE
    content = {
        "labels": list(evaluation.label_names),
        "max_tokens": max_tokens,
        "base_model": base_model,
        "graph": graph,
        "golden": golden_set(texts, evaluation),
    }
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1))
    return path
