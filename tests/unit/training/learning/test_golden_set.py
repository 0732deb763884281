"""The golden set is made of words of the vocabulary, and rounding cannot change its labels."""

import json
from dataclasses import replace
from pathlib import Path

from tests.unit.training.learning.tiny_training import NAMES, TEXTS, Run
from training_svc.learning.evaluate import Predictions
from training_svc.learning.finetune import FineTuneParams
from training_svc.learning.golden_set import (
    CLEAR_MARGIN,
    GOLDEN_TEXTS,
    MADE_TEXTS,
    golden_set,
    made_texts,
    mixed_texts,
    write_golden,
)
from training_svc.learning.model_loading import PACKAGED_ENCODER, load_base


def predictions(probabilities: list[list[float]]) -> Predictions:
    names = ("neg", "pos")
    labels = [names[row.index(max(row))] for row in probabilities]
    return Predictions(names, labels, probabilities, 0.0, "cpu")


def test_unclear_texts_are_left_out() -> None:
    golden = golden_set(["clear", "unclear"], predictions([[0.9, 0.1], [0.54, 0.46]]))
    assert golden == [{"text": "clear", "label": "neg", "scores": [0.9, 0.1]}]


def test_labels_take_turns_and_scores_are_spread() -> None:
    scores = [[0.9, 0.1], [0.8, 0.2], [0.7, 0.3], [0.2, 0.8]]
    golden = golden_set(["a", "b", "c", "d"], predictions(scores))
    assert [entry["text"] for entry in golden] == ["a", "d", "c", "b"]


def test_set_is_bounded() -> None:
    count = GOLDEN_TEXTS + 10
    golden = golden_set([str(n) for n in range(count)], predictions([[0.9, 0.1]] * count))
    assert len(golden) == GOLDEN_TEXTS


def test_texts_are_always_the_same_of_many_lengths_and_scripts() -> None:
    _, tokenizer = load_base(PACKAGED_ENCODER, ["a", "b"], "eager")
    texts = made_texts(tokenizer, 128)
    assert texts == made_texts(tokenizer, 128)
    assert MADE_TEXTS * 0.9 < len(texts) <= MADE_TEXTS
    lengths = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    assert min(lengths) <= 5
    assert max(lengths) > 128
    assert any(not text.isascii() for text in texts)


def test_second_generation_reaches_a_label_that_the_first_one_does_not() -> None:
    first = ["one two", "three four", "five six"]
    mixed = mixed_texts(first, predictions([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]]))
    assert mixed
    assert not set(mixed) & set(first)
    assert {word for text in mixed for word in text.split()} <= set(" ".join(first).split())


def test_set_of_a_trained_model_is_clear_and_holds_no_text_of_a_row(
    run: Run, params: FineTuneParams, tmp_path: Path
) -> None:
    result = run(params=replace(params, epochs=60, learning_rate=1e-2))
    content = json.loads(write_golden(tmp_path, result.model_dir, 16, "tiny").read_text())
    golden = content["golden"]
    assert content["labels"] == NAMES
    assert len(golden) == GOLDEN_TEXTS
    assert {entry["label"] for entry in golden} == set(NAMES)
    assert not {entry["text"] for entry in golden} & set(TEXTS)
    for entry in golden:
        assert entry["label"] == NAMES[entry["scores"].index(max(entry["scores"]))]
        first, second = sorted(entry["scores"], reverse=True)[:2]
        assert first - second >= CLEAR_MARGIN
