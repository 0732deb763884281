"""The measures of a finished classifier."""

import math

import pytest

from tests.unit.training.learning.tiny_training import Run
from training_svc.learning.evaluate import evaluate, log_loss, macro_f1


def test_evaluation_rows_are_in_the_order_of_the_input(run: Run) -> None:
    model_dir = run().model_dir
    texts = ["the film is very very bad", "good", "a fine plot", "bad film", "fine"]
    together = evaluate(model_dir, texts, ["pos"] * 5, batch_size=2)
    for i, text in enumerate(texts):
        alone = evaluate(model_dir, [text], ["pos"])
        assert together.probabilities[i] == pytest.approx(alone.probabilities[0], abs=1e-5)
        assert together.predictions[i] == alone.predictions[0]


def test_label_unknown_to_the_model_counts_as_an_error(run: Run) -> None:
    measured = evaluate(run().model_dir, ["good"], ["unheard of"])
    assert measured.accuracy == 0.0
    assert measured.log_loss == pytest.approx(-math.log(1e-7))


def test_scores_match_values_worked_out_by_hand() -> None:
    # a: 2 * 1 / (2 + 1) = 2/3, b: 2 * 1 / (1 + 2) = 2/3
    assert macro_f1(["a", "a", "b"], ["a", "b", "b"]) == pytest.approx(2 / 3)
    assert log_loss(["a", "b"], [[0.5, 0.5], [0.75, 0.25]], ["a", "b"]) == pytest.approx(
        (math.log(2) + math.log(4)) / 2
    )
