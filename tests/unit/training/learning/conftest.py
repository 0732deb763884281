"""A tiny BERT with random weights, and its training."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel, BertTokenizer

from tests.unit.training.learning.tiny_training import LABELS, NAMES, TEXTS, WORDS, Run
from training_svc.learning import devices, trainer
from training_svc.learning.finetune import FineTuneParams, FineTuneResult, fine_tune


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny-bert")
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocab),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    BertModel(config).save_pretrained(folder)
    BertTokenizer(vocab={word: i for i, word in enumerate(vocab)}).save_pretrained(folder)
    return folder


@pytest.fixture
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny model has too little work for two threads: they would mostly wait for one another."""
    monkeypatch.setattr(devices, "usable_cores", lambda: 1)


@pytest.fixture
def params(tiny_bert: Path) -> FineTuneParams:
    return FineTuneParams(str(tiny_bert), epochs=3, batch_size=2, learning_rate=1e-3)


@pytest.fixture
def run(one_thread: None, tmp_path: Path, params: FineTuneParams) -> Run:
    """fine_tune on TEXTS and LABELS, with every argument open to change."""

    def fine_tune_here(
        texts: list[str] = TEXTS, labels: list[str] = LABELS, **changed: object
    ) -> FineTuneResult:
        arguments: dict[str, object] = {
            "label_names": NAMES,
            "params": params,
            "output_dir": tmp_path / "model",
            "checkpoint_dir": tmp_path / "checkpoints",
        }
        return fine_tune(texts, labels, **(arguments | changed))  # type: ignore[arg-type]

    return fine_tune_here


@pytest.fixture
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_EVERY_S", 0.0)
