"""The start of the service."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = "torch transformers mlflow scipy pandas"


def test_service_imports_nothing_heavy() -> None:
    code = (
        f"import training_svc.main, sys; print(sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    )
    imported = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert imported.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TRAINING_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}, "no CUDA device here"),
        ({"TRAINING_STATE_DIR": "/proc/training"}, "/proc/training is not writable"),
        ({"TRAINING_BASE_MODELS": "org/model"}, "the 40 hexadecimal digits of a commit"),
        ({"TRAINING_BASE_MODEL": "distilbert"}, "TRAINING_BASE_MODEL: 'distilbert' is neither"),
    ],
)
def test_service_refuses_to_start_where_it_cannot_work(
    environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "training_svc.main"],
        env={"TRAINING_STATE_DIR": str(tmp_path), "TRAINING_PORT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 1
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
