"""Measures a finished classifier on labelled rows, in fp32: the exact reference."""

import math
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from training_svc.learning.devices import choose_device, torch_threads
from training_svc.learning.model_loading import labels_of, load_trained, position_limit
from training_svc.learning.tokenized_rows import INPUT_IDS, in_chunks

BATCH_SIZE = 32  # rows; they are sorted by length, so that little padding is computed

# Least probability that counts for the true label, so that its loss is 16.1 and not infinite.
LEAST_PROBABILITY = 1e-7


@dataclass(frozen=True)
class Evaluation:
    """The scores of a model; item i of `predictions` and `probabilities` belongs to text i."""

    label_names: tuple[str, ...]  # the columns of `probabilities`
    predictions: list[str]
    probabilities: list[list[float]]  # rows x labels, each row sums to one
    accuracy: float  # 0 to 1
    macro_f1: float  # 0 to 1, the mean over all labels that are true or predicted in some row
    log_loss: float  # nats a row
    seconds: float  # tokenising and computing, without loading the model
    device: str


@dataclass(frozen=True)
class Predictions:
    """What a model says; item i of `predictions` and `probabilities` belongs to text i."""

    label_names: tuple[str, ...]  # the columns of `probabilities`
    predictions: list[str]
    probabilities: list[list[float]]  # rows x labels, each row sums to one
    seconds: float  # tokenising and computing, without loading the model
    device: str

    def joined(self, more: "Predictions") -> "Predictions":
        """These, and those of the same model for more texts."""
        return Predictions(
            self.label_names,
            self.predictions + more.predictions,
            self.probabilities + more.probabilities,
            self.seconds + more.seconds,
            self.device,
        )


def predict(
    model_dir: Path, texts: Sequence[str], *, batch_size: int = BATCH_SIZE, bf16: bool = False
) -> Predictions:
    """Predict the label of every text, in fp32 or, as most replicas compute, in bf16."""
    device = choose_device()
    model, tokenizer = load_trained(model_dir)
    module: torch.nn.Module = model
    names = tuple(labels_of(model.config))
    started = time.perf_counter()
    with torch_threads(device.threads), torch.autocast(device.kind, torch.bfloat16, enabled=bf16):
        probabilities = _probabilities(
            module.to(device.kind).eval(),
            _token_ids(
                tokenizer, texts, min(tokenizer.model_max_length, position_limit(model.config))
            ),
            pad_id=tokenizer.pad_token_id or 0,
            batch_size=batch_size,
        )
    return Predictions(
        label_names=names,
        predictions=[names[max(range(len(row)), key=row.__getitem__)] for row in probabilities],
        probabilities=probabilities,
        seconds=time.perf_counter() - started,
        device=device.describe("bf16" if bf16 else "fp32"),
    )


def evaluate(
    model_dir: Path, texts: Sequence[str], labels: Sequence[str], *, batch_size: int = BATCH_SIZE
) -> Evaluation:
    """Predict the label of every text and compare it with `labels`, one true label per text.

    A true label that the model does not know counts as an error with LEAST_PROBABILITY, so that
    a champion can be measured on labels that came up after its training.
    Raises ValueError if there are no rows, or not as many labels as texts.
    """
    if not texts or len(texts) != len(labels):
        raise ValueError(f"need one label per text, got {len(texts)} texts, {len(labels)} labels")
    given = predict(model_dir, texts, batch_size=batch_size)
    right = sum(p == t for p, t in zip(given.predictions, labels, strict=True))
    return Evaluation(
        label_names=given.label_names,
        predictions=given.predictions,
        probabilities=given.probabilities,
        accuracy=right / len(labels),
        macro_f1=macro_f1(labels, given.predictions),
        log_loss=log_loss(labels, given.probabilities, given.label_names),
        seconds=given.seconds,
        device=given.device,
    )


def macro_f1(labels: Sequence[str], predictions: Sequence[str]) -> float:
    """Unweighted mean of the F1 scores of all labels that are true or predicted in some row."""
    pairs = list(zip(labels, predictions, strict=True))
    scores = []
    for name in set(labels) | set(predictions):
        hits = sum(t == p == name for t, p in pairs)
        counted = sum((t == name) + (p == name) for t, p in pairs)
        scores.append(2 * hits / counted)
    return sum(scores) / len(scores)


def log_loss(
    labels: Sequence[str], probabilities: Sequence[Sequence[float]], names: Sequence[str]
) -> float:
    """Mean negative log probability of the true labels, in nats."""
    column = {name: i for i, name in enumerate(names)}
    total = 0.0
    for label, row in zip(labels, probabilities, strict=True):
        given = row[column[label]] if label in column else 0.0
        total -= math.log(max(given, LEAST_PROBABILITY))
    return total / len(labels)


def _token_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int
) -> list["array[int]"]:
    """The tokens of each text, in order."""
    return [
        array("i", row)
        for chunk in in_chunks(texts)
        for row in tokenizer(chunk, truncation=True, max_length=max_length)[INPUT_IDS]
    ]


@torch.inference_mode()
def _probabilities(
    model: torch.nn.Module, token_ids: Sequence["array[int]"], *, pad_id: int, batch_size: int
) -> list[list[float]]:
    """One softmax row per token list, in the order given."""
    device = next(model.parameters()).device
    by_length = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    result: list[list[float]] = [[] for _ in token_ids]
    for start in range(0, len(by_length), batch_size):
        rows = by_length[start : start + batch_size]
        batch = [torch.tensor(token_ids[i], dtype=torch.long) for i in rows]
        pad = torch.nn.utils.rnn.pad_sequence
        input_ids = pad(batch, batch_first=True, padding_value=pad_id)
        mask = pad([torch.ones_like(ids) for ids in batch], batch_first=True)
        logits = model(input_ids=input_ids.to(device), attention_mask=mask.to(device)).logits
        for i, row in zip(rows, logits.float().softmax(-1).tolist(), strict=True):
            result[i] = row
    return result
