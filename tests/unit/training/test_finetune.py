"""Fine-tuning and evaluating, on a tiny BERT with random weights."""

import json
import math
import os
import random
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, BertTokenizer

from training_svc.learning import devices, trainer
from training_svc.learning.evaluate import evaluate, log_loss, macro_f1
from training_svc.learning.finetune import (
    FineTuneParams,
    FineTuneResult,
    automatic_epochs,
    fine_tune,
)
from training_svc.learning.model_loading import BaseModelNotFound, load_base, load_trained
from training_svc.learning.optimizer import layered_adamw
from training_svc.learning.trainer import Progress, WordHider, batches_by_length

WORDS = ["good", "bad", "fine", "film", "plot", "very", "a", "the", "is", "was"]
TEXTS = [
    "good film",
    "very good plot",
    "the film is bad",
    "bad",
    "a fine plot",
    "fine",
    "fine film",
]
LABELS = ["pos", "pos", "neg", "neg", "mid", "mid", "mid"]
NAMES = ["neg", "mid", "pos"]

Run = Callable[..., FineTuneResult]


class Interrupted(Exception):
    """Stands for the kill of a child."""


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


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that wait for one another cost more than a tiny model has to share out."""
    if "quota" not in request.node.name:
        monkeypatch.setattr(devices, "usable_cores", lambda: 1)


@pytest.fixture
def params(tiny_bert: Path) -> FineTuneParams:
    return FineTuneParams(str(tiny_bert), epochs=3, batch_size=2, learning_rate=1e-3)


@pytest.fixture
def run(tmp_path: Path, params: FineTuneParams) -> Run:
    """fine_tune on the rows above, with every argument open to change."""

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


def stop_at(step: int) -> Callable[[Progress], None]:
    def on_progress(progress: Progress) -> None:
        if progress.step >= step:
            raise Interrupted

    return on_progress


@pytest.fixture
def report_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "REPORT_EVERY_S", 0.0)


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


def test_same_seed_gives_the_same_model(run: Run, tmp_path: Path) -> None:
    first = load_trained(run().model_dir)[0].state_dict()
    again = run(output_dir=tmp_path / "again", checkpoint_dir=tmp_path / "other")
    second = load_trained(again.model_dir)[0].state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


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


@pytest.mark.usefixtures("report_every_step")
@pytest.mark.parametrize("broken_at", [6, 9])  # in the middle and at the start of an epoch
def test_interrupted_training_resumes_to_the_same_model(
    run: Run, tmp_path: Path, broken_at: int
) -> None:
    whole = run(output_dir=tmp_path / "whole", checkpoint_dir=tmp_path / "unbroken")
    with pytest.raises(Interrupted):
        run(on_progress=stop_at(broken_at), checkpoint_every_s=0.0)
    steps: list[int] = []
    resumed = run(on_progress=lambda p: steps.append(p.step))
    assert resumed.resumed_from_step == broken_at - 1
    assert steps == list(range(broken_at, whole.total_steps + 1))
    assert resumed.total_steps == whole.total_steps
    expected = load_trained(whole.model_dir)[0].state_dict()
    actual = load_trained(resumed.model_dir)[0].state_dict()
    for name in expected:
        torch.testing.assert_close(actual[name], expected[name])


@pytest.mark.usefixtures("report_every_step")
@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "trainer_state.json", "scheduler.pt"]
)
def test_broken_checkpoint_is_not_resumed(run: Run, tmp_path: Path, file: str) -> None:
    with pytest.raises(Interrupted):
        run(on_progress=stop_at(4), checkpoint_every_s=0.0)
    (checkpoint,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    os.truncate(checkpoint / file, (checkpoint / file).stat().st_size // 2)
    (tmp_path / "checkpoints" / "staging" / "checkpoint-5").mkdir(parents=True)
    assert run().resumed_from_step == 0


@pytest.mark.usefixtures("report_every_step")
def test_checkpoint_of_another_training_is_not_resumed(run: Run, params: FineTuneParams) -> None:
    with pytest.raises(Interrupted):
        run(on_progress=stop_at(4), checkpoint_every_s=0.0)
    assert run(params=replace(params, seed=1)).resumed_from_step == 0


def test_at_most_one_checkpoint_is_kept(run: Run, tmp_path: Path) -> None:
    run(checkpoint_every_s=0.0)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_rows_of_one_label_are_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="at least two different labels"):
        run(["good", "fine"], ["pos", "pos"], label_names=["pos"])


def test_unknown_label_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match="not in label_names: pos"):
        run(label_names=["neg", "mid"])


def test_the_hubs_token_may_be_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[object] = []

    def no_hub(source: str, **options: object) -> None:
        asked.append((source, options["token"]))
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
    assert asked == [("org/model", token) for token in (None, "hf_of_the_file", "hf_own")]


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


@pytest.mark.parametrize(("asked", "limit"), [(4, 4), (500, 32)])
def test_long_texts_are_truncated(run: Run, params: FineTuneParams, asked: int, limit: int) -> None:
    long = " ".join(["good"] * 300)
    result = run(
        [*TEXTS, long], [*LABELS, "pos"], params=replace(params, epochs=1, max_length=asked)
    )
    assert result.max_length == limit
    texts_longer_than_two_words = 3
    assert result.truncated_rows == (1 + texts_longer_than_two_words if asked == 4 else 1)
    assert load_trained(result.model_dir)[1].model_max_length == limit
    assert len(evaluate(result.model_dir, [long], ["pos"]).probabilities) == 1


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


def test_learning_rate_falls_from_head_to_embeddings(tiny_bert: Path) -> None:
    model, _ = load_base(str(tiny_bert), ["a", "b"], "eager")
    rates = {
        id(p): group["lr"]
        for group in layered_adamw(model, 1.0, 0.5, 0.1).param_groups
        for p in group["params"]
    }
    named = {name: rates[id(p)] for name, p in model.named_parameters() if id(p) in rates}
    assert named["classifier.weight"] == named["bert.pooler.dense.weight"] == 1.0
    assert named["bert.encoder.layer.0.output.dense.weight"] == 0.5
    assert named["bert.embeddings.position_embeddings.weight"] == 0.25
    assert "bert.embeddings.word_embeddings.weight" not in named  # these do not learn


def test_small_data_gets_more_epochs() -> None:
    assert automatic_epochs(8, 16) > automatic_epochs(370, 16) > automatic_epochs(6920, 32)


def test_threads_follow_affinity_and_quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    monkeypatch.setattr(devices, "CGROUP_V1_QUOTA", tmp_path / "none")
    quota = tmp_path / "cpu.max"
    monkeypatch.setattr(devices, "CGROUP_V2_QUOTA", quota)
    cores = []
    for line in ["max 100000", "250000 100000", "50000 100000", "900000 100000"]:
        quota.write_text(line + "\n")
        cores.append(devices.usable_cores())
    assert cores == [4, 2, 1, 4]


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
