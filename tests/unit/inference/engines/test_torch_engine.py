"""The engine of torch reads safetensors, and runs no code that lies beside them."""

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from inference_svc.engines.base import WeightsMissing
from inference_svc.engines.torch_engine import TorchEngine


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.path,))


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A version's folder with a tiny model, and what other libraries would unpickle."""
    folder = tmp_path / "model"
    config = BertConfig(
        vocab_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=32,
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    for name in ("pytorch_model.bin", "model.pt", "python_model.pkl", "model.joblib"):
        torch.save(Touch(tmp_path / "touched"), folder / name)
    return folder


def engine() -> TorchEngine:
    return TorchEngine("cpu", "fp32", threads=1)


def test_nothing_pickled_is_read(weights: Path, tmp_path: Path) -> None:
    engine().load(weights)
    (weights / "model.safetensors").unlink()
    with pytest.raises(WeightsMissing):
        engine().load(weights)
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize("part", ["AutoConfig", "AutoModelForSequenceClassification"])
def test_code_beside_the_weights_never_runs(weights: Path, tmp_path: Path, part: str) -> None:
    touched = tmp_path / "touched"
    (weights / "own.py").write_text(f"open({str(touched)!r}, 'w')\nclass Own: pass\n")
    config = json.loads((weights / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {part: "own.Own"}}
    (weights / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"own|trust_remote_code"):
        engine().load(weights)
    assert not touched.exists()
