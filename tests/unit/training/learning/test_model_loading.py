"""Base models, and the warm start from an earlier model."""

import json
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.learning.tiny_training import LABELS, NAMES, TEXTS, Run
from training_svc.learning.base_model_error import BaseModelUnusable
from training_svc.learning.evaluate import evaluate
from training_svc.learning.finetune import FineTuneParams
from training_svc.learning.model_loading import (
    load_base,
    load_earlier,
    load_tokenizer,
    load_trained,
)


def test_an_unusable_folder_is_refused_without_its_path(run: Run, params: FineTuneParams) -> None:
    with pytest.raises(BaseModelUnusable, match="TRAINING_BASE_MODELS") as caught:
        run(params=replace(params, base_model="/no/such/folder"))
    assert "/no/such" not in str(caught.value)


def test_pickled_weights_are_never_read(tiny_bert: Path, tmp_path: Path) -> None:
    folder = copied(tiny_bert, tmp_path)
    touched = tmp_path / "touched"
    (folder / "model.safetensors").unlink()
    torch.save(Touch(touched), folder / "pytorch_model.bin")
    with pytest.raises(BaseModelUnusable) as caught:
        load_base(str(folder), ["a", "b"], "sdpa")
    assert not touched.exists()
    assert str(folder) not in str(caught.value)


@pytest.mark.parametrize("part", ["AutoConfig", "AutoModelForSequenceClassification"])
def test_code_beside_a_model_never_runs(tiny_bert: Path, tmp_path: Path, part: str) -> None:
    folder = copied(tiny_bert, tmp_path)
    touched = tmp_path / "touched"
    (folder / "own.py").write_text(f"open({str(touched)!r}, 'w')\nclass Own: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {part: "own.Own"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BaseModelUnusable):
        load_base(str(folder), ["a", "b"], "sdpa")
    assert not touched.exists()


LOADERS: dict[str, Callable[[Path], object]] = {
    "earlier": lambda folder: load_earlier(folder, ["a", "b"], "sdpa"),
    "trained": load_trained,
    "tokenizer": load_tokenizer,
}


@pytest.mark.parametrize("loader", ["earlier", "trained"])
def test_pickled_weights_of_a_registered_version_are_never_read(
    tiny_bert: Path, tmp_path: Path, loader: str
) -> None:
    folder = copied(tiny_bert, tmp_path)
    touched = tmp_path / "touched"
    (folder / "model.safetensors").unlink()
    for name in ("pytorch_model.bin", "model.pt", "python_model.pkl", "model.joblib"):
        torch.save(Touch(touched), folder / name)
    with pytest.raises(OSError, match="safetensors"):
        LOADERS[loader](folder)
    assert not touched.exists()


@pytest.mark.parametrize("loader", LOADERS)
def test_files_that_other_flavours_of_mlflow_would_load_are_left_alone(
    tiny_bert: Path, tmp_path: Path, loader: str
) -> None:
    folder = copied(tiny_bert, tmp_path)
    touched = tmp_path / "touched"
    for name in ("pytorch_model.bin", "python_model.pkl", "model.pkl", "model.joblib"):
        torch.save(Touch(touched), folder / name)
    (folder / "MLmodel").write_text(
        "flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"
        "    python_model: python_model.pkl\n    cloudpickle_version: 3.0.0\n"
    )
    LOADERS[loader](folder)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("loader", "file", "part"),
    [
        ("earlier", "config.json", "AutoConfig"),
        ("trained", "config.json", "AutoModelForSequenceClassification"),
        ("trained", "tokenizer_config.json", "AutoTokenizer"),
        ("tokenizer", "tokenizer_config.json", "AutoTokenizer"),
    ],
)
def test_code_beside_a_registered_version_never_runs(
    tiny_bert: Path, tmp_path: Path, loader: str, file: str, part: str
) -> None:
    folder = copied(tiny_bert, tmp_path)
    touched = tmp_path / "touched"
    (folder / "own.py").write_text(f"open({str(touched)!r}, 'w')\nclass Own: pass\n")
    content = json.loads((folder / file).read_text())
    named = ["own.Own", None] if part == "AutoTokenizer" else "own.Own"
    content |= {"auto_map": {part: named}, "model_type": "own", "tokenizer_class": "Own"}
    (folder / file).write_text(json.dumps(content))
    with suppress(Exception):  # some loaders refuse, and some take the class that they know
        LOADERS[loader](folder)
    assert not touched.exists()
    assert not [name for name in sys.modules if name.endswith(".own")]


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


def copied(folder: Path, into: Path) -> Path:
    return Path(shutil.copytree(folder, into / "model"))


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
