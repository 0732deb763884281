"""Base models, and the warm start from an earlier model."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.learning.tiny_training import LABELS, NAMES, TEXTS, Run
from training_svc.learning.evaluate import evaluate
from training_svc.learning.finetune import FineTuneParams
from training_svc.learning.model_loading import BaseModelNotFound, load_base, load_trained


def test_the_hubs_token_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requested: list[object] = []

    def no_hub(source: str, **options: object) -> None:
        requested.append((source, options["token"]))
        raise OSError("no hub here")

    monkeypatch.setattr("training_svc.learning.model_loading.AutoConfig.from_pretrained", no_hub)
    for name in ("HUGGINGFACE_TOKEN", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "token"
    file.write_text("hf_of_the_file\n")
    for variables in ({}, {"HUGGINGFACE_TOKEN_FILE": str(file)}, {"HUGGINGFACE_TOKEN": "hf_own"}):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(OSError, match="no hub here"):
            load_base("org/model", ["a", "b"], "sdpa")
    assert requested == [("org/model", token) for token in (None, "hf_of_the_file", "hf_own")]


def test_missing_folder_is_named(run: Run, params: FineTuneParams) -> None:
    with pytest.raises(BaseModelNotFound, match="/no/such/folder"):
        run(params=replace(params, base_model="/no/such/folder"))


def test_warm_start_reuses_the_head_in_the_new_label_order(
    run: Run, params: FineTuneParams, tmp_path: Path
) -> None:
    earlier = run(params=replace(params, epochs=40, learning_rate=3e-3))
    reversed_names = NAMES[::-1]
    warm = run(
        label_names=reversed_names,
        start_from=earlier.model_dir,
        params=replace(params, epochs=1, learning_rate=0.0),
        output_dir=tmp_path / "warm",
    )
    before = evaluate(earlier.model_dir, TEXTS, LABELS)
    after = evaluate(warm.model_dir, TEXTS, LABELS)
    assert after.label_names == tuple(reversed_names)
    assert after.predictions == before.predictions
    assert after.probabilities[0] == pytest.approx(before.probabilities[0][::-1], abs=1e-5)


def test_warm_start_with_other_labels_keeps_the_encoder_only(
    run: Run, params: FineTuneParams, tmp_path: Path
) -> None:
    earlier = run(params=replace(params, max_length=4))
    warm = run(
        labels=["x", "x", "y", "y", "z", "z", "z"],
        label_names=["x", "y", "z"],
        start_from=earlier.model_dir,
        params=replace(params, epochs=1, learning_rate=0.0, max_length=8),
        output_dir=tmp_path / "warm",
    )
    assert warm.max_length == 8  # not limited by the earlier training
    old = load_trained(earlier.model_dir)[0].state_dict()
    new = load_trained(warm.model_dir)[0].state_dict()
    differing = {name for name in old if not torch.equal(old[name], new[name])}
    assert "classifier.weight" in differing <= {"classifier.weight", "classifier.bias"}


def test_warm_start_with_more_labels(run: Run, tmp_path: Path) -> None:
    earlier = run()
    warm = run(
        label_names=[*NAMES, "new"], start_from=earlier.model_dir, output_dir=tmp_path / "warm"
    )
    assert evaluate(warm.model_dir, TEXTS, LABELS).label_names == (*NAMES, "new")
