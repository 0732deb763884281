"""What the service says about its child processes, and what it keeps out of itself."""

import subprocess
import sys
from pathlib import Path

import pytest

from service_kit.errors import Unavailable
from training_svc.jobs.child_process import ChildEnd, is_hub_id
from training_svc.jobs.folders import JobFolders

HEAVY = "torch transformers mlflow scipy pandas"


def test_service_imports_nothing_heavy() -> None:
    code = (
        f"import training_svc.main, sys; print(sorted(set('{HEAVY}'.split()) & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_signal_is_named_and_the_last_line_repeated() -> None:
    assert str(ChildEnd(-11, "loading weights")) == (
        "the training process was killed by signal 11 (SIGSEGV); it last said: loading weights"
    )


def test_exit_status_is_told() -> None:
    assert str(ChildEnd(3)) == "the training process ended with exit status 3"


def test_folders_and_the_packaged_encoder_need_no_hub(tmp_path: Path) -> None:
    assert not is_hub_id("")
    assert not is_hub_id(str(tmp_path))
    assert not is_hub_id("/no/such/folder")
    assert is_hub_id("distilbert/distilbert-base-uncased")


def test_state_folder_takes_one_service_at_a_time(tmp_path: Path) -> None:
    first, second = JobFolders(tmp_path, 0), JobFolders(tmp_path, 0)
    first.lock()
    with pytest.raises(Unavailable, match="another training service works in"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TRAINING_DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}, "no CUDA device here"),
        ({"TRAINING_STATE_DIR": "/proc/training"}, "/proc/training is not writable"),
    ],
)
def test_service_refuses_to_start_where_it_cannot_work(
    environment: dict[str, str], words: str, tmp_path: Path
) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "training_svc.main"],
        env={"TRAINING_STATE_DIR": str(tmp_path), "TRAINING_PORT": "0"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found.returncode == 1
    assert words in found.stderr
    assert "Traceback" not in found.stderr
