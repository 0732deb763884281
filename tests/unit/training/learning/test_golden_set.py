"""The golden set has only texts whose label rounding cannot change."""

from training_svc.learning.evaluate import Evaluation
from training_svc.learning.golden_set import GOLDEN_TEXTS, golden_set


def evaluation(probabilities: list[list[float]]) -> Evaluation:
    names = ("neg", "pos")
    predictions = [names[row.index(max(row))] for row in probabilities]
    return Evaluation(names, predictions, probabilities, 0.0, 0.0, 0.0, 0.0, "cpu")


def test_unclear_texts_are_left_out() -> None:
    golden = golden_set(["clear", "unclear"], evaluation([[0.9, 0.1], [0.54, 0.46]]))
    assert golden == [{"text": "clear", "label": "neg", "scores": [0.9, 0.1]}]


def test_labels_take_turns() -> None:
    probabilities = [[0.9, 0.1]] * 3 + [[0.2, 0.8]]
    golden = golden_set(["a", "b", "c", "d"], evaluation(probabilities))
    assert [entry["text"] for entry in golden] == ["a", "d", "b", "c"]


def test_set_is_bounded() -> None:
    count = GOLDEN_TEXTS + 10
    golden = golden_set([str(n) for n in range(count)], evaluation([[0.9, 0.1]] * count))
    assert len(golden) == GOLDEN_TEXTS
