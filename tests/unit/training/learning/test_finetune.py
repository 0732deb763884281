"""Fine-tuning, on a tiny BERT with random weights."""

import json
import math
import socket
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from tests.unit.training.learning.tiny_training import LABELS, TEXTS, Run
from training_svc.learning.evaluate import evaluate
from training_svc.learning.finetune import FineTuneParams, automatic_epochs
from training_svc.learning.model_loading import load_trained
from training_svc.learning.trainer import Progress


def test_saved_folder_holds_safetensors_and_text_only(run: Run) -> None:
    result = run()
    suffixes = {path.suffix for path in result.model_dir.iterdir()}
    assert {".safetensors", ".json"} <= suffixes <= {".safetensors", ".json", ".txt"}
    assert not result.model_dir.with_name("model.partial").exists()


def test_label_order_is_the_callers(run: Run) -> None:
    config = json.loads((run().model_dir / "config.json").read_text())
    assert config["id2label"] == {"0": "neg", "1": "mid", "2": "pos"}
    assert config["label2id"] == {"neg": 0, "mid": 1, "pos": 2}
    assert config["problem_type"] == "single_label_classification"


def test_trained_rows_are_learned(run: Run, params: FineTuneParams) -> None:
    result = run(params=replace(params, epochs=40, learning_rate=3e-3))
    assert evaluate(result.model_dir, TEXTS, LABELS).accuracy == 1.0


def test_same_seed_gives_the_same_model_and_another_seed_another(
    run: Run, params: FineTuneParams, tmp_path: Path
) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        result = run(
            params=replace(params, seed=seed),
            output_dir=tmp_path / name,
            checkpoint_dir=tmp_path / f"checkpoints-{name}",
        )
        return dict(load_trained(result.model_dir)[0].state_dict())

    first, same, other = weights("first", 0), weights("same", 0), weights("other", 1)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], other["classifier.weight"])


@pytest.mark.usefixtures("report_every_step")
def test_progress_is_monotone_and_ends_at_the_last_step(run: Run) -> None:
    seen: list[Progress] = []
    result = run(on_progress=seen.append)
    assert [p.step for p in seen] == list(range(1, result.total_steps + 1))
    assert result.total_steps == 3 * math.ceil(len(TEXTS) / 2)
    assert [p.epoch for p in seen] == sorted(p.epoch for p in seen)
    assert seen[-1].epoch == 3.0
    assert seen[-1].eta_seconds == 0.0
    assert all(p.total_steps == result.total_steps for p in seen)
    assert all(p.examples_per_second > 0 and math.isfinite(p.loss) for p in seen)


def test_rows_of_one_label_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="at least two different labels"):
        run(["good", "fine"], ["pos", "pos"], label_names=["pos"])


def test_unknown_label_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="not in label_names: pos"):
        run(label_names=["neg", "mid"])


# Of the seven rows three have more than two words and so, with the special tokens, more than four.
@pytest.mark.parametrize(("asked", "limit", "truncated"), [(4, 4, 4), (500, 32, 1)])
def test_long_texts_are_truncated(
    run: Run, params: FineTuneParams, asked: int, limit: int, truncated: int
) -> None:
    long = " ".join(["good"] * 300)
    result = run(
        [*TEXTS, long], [*LABELS, "pos"], params=replace(params, epochs=1, max_length=asked)
    )
    assert result.max_length == limit
    assert result.truncated_rows == truncated
    assert load_trained(result.model_dir)[1].model_max_length == limit
    assert len(evaluate(result.model_dir, [long], ["pos"]).probabilities) == 1


def test_small_data_gets_more_epochs() -> None:
    assert automatic_epochs(8, 16) > automatic_epochs(370, 16) > automatic_epochs(6920, 32)


def test_packaged_encoder_trains_without_network_or_noise(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("contacted the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    result = run(params=FineTuneParams(epochs=2))
    model = AutoModelForSequenceClassification.from_pretrained(result.model_dir)
    assert type(model).__name__ == "BertForSequenceClassification"
    assert result.device.startswith(("cpu (", "cuda:0 "))
    evaluate(result.model_dir, TEXTS, LABELS)
    out, err = capfd.readouterr()
    assert out == ""
    assert "warn" not in err.lower()
