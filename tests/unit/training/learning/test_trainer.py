"""Batches of similar length, and hidden words."""

import random

import pytest
import torch

from training_svc.learning.trainer import WordHider, batches_by_length


def test_batches_hold_every_row_once_and_like_lengths_together() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(3, 60) for _ in range(1001)]
    batches = batches_by_length(lengths, 32, "seed")
    assert sorted(i for batch in batches for i in batch) == list(range(1001))
    assert [len(batch) for batch in batches] == [32] * 31 + [9]
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert padded < 1.1 * sum(lengths)
    assert batches == batches_by_length(lengths, 32, "seed")
    assert batches != batches_by_length(lengths, 32, "another seed")


def test_hidden_words_are_never_special_tokens() -> None:
    input_ids = torch.tensor([[2] + [7] * 2000 + [3, 0]])
    hidden = WordHider(4, [0, 1, 2, 3, 4], 0.25).hide(input_ids, seed=1)
    assert hidden[0, [0, -2, -1]].tolist() == [2, 3, 0]
    assert (hidden == 4).float().mean().item() == pytest.approx(0.25, abs=0.05)
    assert torch.equal(hidden, WordHider(4, [0, 1, 2, 3, 4], 0.25).hide(input_ids, seed=1))
