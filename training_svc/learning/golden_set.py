"""The golden set: texts by which a replica proves that it computes what was trained.

The texts are made out of the tokenizer's vocabulary. Rows of the training table are never among
them, so that rows which are deleted leave no copy behind in the versions that are kept.
"""

import json
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from training_svc.learning.evaluate import Predictions, predict
from training_svc.learning.golden_file import GOLDEN_FILE, MADE
from training_svc.learning.model_loading import load_tokenizer

GOLDEN_TEXTS = 32
# Least lead of the top score, so that an engine's number format cannot change the label.
CLEAR_MARGIN = 0.2
# Texts that are looked at in bf16 as well. Those whose scores it moves by more than STEADY, which
# is half of what replicas allow in bf16, are left out: a sound engine could fail on them.
SHORTLIST = 40
STEADY = 0.025

MADE_TEXTS = 96  # out of which the golden ones are chosen
# Second generation: texts out of the words of those that are closest to a label.
MIXED_TEXTS = 64
PARENTS = 8  # texts of the first generation for each label
# Tokens. Random texts of fewer could be rows by chance; a few are longer than the model reads.
LENGTHS = (3, 4, 6, 8, 16, 32, 64)
LONGER = 1.25  # times max_tokens
MOST_TOKENS = 640  # of a made text, so that a model with a long context costs no minutes
SEED = 20_240_229


def made_texts(tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> list[str]:
    """Texts of every length, in the words of the tokenizer; always the same ones."""
    rng = random.Random(SEED)  # noqa: S311  no secret
    special = set(tokenizer.all_special_ids)
    words = [token for token in sorted(tokenizer.get_vocab().values()) if token not in special]
    longest = min(MOST_TOKENS, max(2, int(max_tokens * LONGER)))
    lengths = [length for length in LENGTHS if length < longest]
    texts: dict[str, None] = {}
    for number in range(MADE_TEXTS):
        # One text in 16 is as long as it may be: computing it takes the most time.
        length = longest if number % 16 == 0 else lengths[number % len(lengths)]
        text = str(tokenizer.decode(rng.choices(words, k=length))).strip()
        if text:
            texts.setdefault(text)
    return list(texts)


def mixed_texts(texts: Sequence[str], predictions: Predictions) -> list[str]:
    """New texts for every label, out of the words of the texts that come closest to it."""
    rng = random.Random(SEED)  # noqa: S311  no secret
    names = predictions.label_names
    each = max(1, MIXED_TEXTS // len(names))
    mixed: dict[str, None] = {}
    for column in range(min(len(names), MIXED_TEXTS)):
        order = sorted(range(len(texts)), key=lambda i: -predictions.probabilities[i][column])
        words = [word for i in order[:PARENTS] for word in texts[i].split()[:32]]
        for number in range(each if words else 0):
            mixed.setdefault(" ".join(rng.choices(words, k=3 + number % 12)))
    return [text for text in mixed if text not in set(texts)]


def golden_set(
    texts: Sequence[str], predictions: Predictions, most: int = GOLDEN_TEXTS
) -> list[dict[str, Any]]:
    """At most `most` texts with a clear prediction, the labels taking turns.

    Of each label some texts are as clear as any, and some are among the least clear ones, so that
    the scores lie in several regions.
    """
    clear: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for text, label, scores in zip(
        texts, predictions.predictions, predictions.probabilities, strict=True
    ):
        first, second = sorted(scores, reverse=True)[:2]
        if first - second >= CLEAR_MARGIN:
            clear[label].append({"text": text, "label": label, "scores": scores})
    columns = [_spread(clear[label]) for label in predictions.label_names]
    in_turn = [entry for row in zip_longest(*columns) for entry in row if entry is not None]
    return in_turn[:most]


def _spread(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The clearest, the least clear, the next clearest …: alternately from both ends."""
    entries = sorted(entries, key=lambda entry: -max(entry["scores"]))
    half = (len(entries) + 1) // 2
    pairs = zip_longest(entries[:half], reversed(entries[half:]))
    return [entry for pair in pairs for entry in pair if entry is not None]


def _steady(entries: list[dict[str, Any]], model_dir: Path) -> list[dict[str, Any]]:
    """The entries whose scores are nearly the same in bf16."""
    if not entries:
        return []
    rough = predict(model_dir, [entry["text"] for entry in entries], bf16=True).probabilities
    return [
        entry
        for entry, scores in zip(entries, rough, strict=True)
        if max(abs(a - b) for a, b in zip(entry["scores"], scores, strict=True)) <= STEADY
    ]


def write_golden(
    folder: Path,
    model_dir: Path,
    max_tokens: int,
    base_model: str,
    graph: Mapping[str, str] | None = None,
) -> Path:
    """Write golden.json and return its path. Scores are probabilities in fp32, label by label.

    `graph` is what openvino_graph.try_export returned, None if the export failed.
    """
    texts = made_texts(load_tokenizer(model_dir), max_tokens)
    predictions = predict(model_dir, texts)
    more = mixed_texts(texts, predictions)
    if more:
        predictions = predictions.joined(predict(model_dir, more))
    shortlist = golden_set([*texts, *more], predictions, SHORTLIST)
    golden = _steady(shortlist, model_dir)[:GOLDEN_TEXTS]
    path = folder / GOLDEN_FILE
    content = {
        "labels": list(predictions.label_names),
        "max_tokens": max_tokens,
        "base_model": base_model,
        "graph": graph,
        MADE: True,
        "golden": golden,
    }
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1))
    return path
