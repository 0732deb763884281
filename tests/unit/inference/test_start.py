"""Settings with which a replica does not start, and what it says then."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from inference_svc.settings import InferenceSettings


@pytest.mark.parametrize(
    "wrong",
    [{"device": "tpu"}, {"threads": -1}, {"max_queue_texts": 1024}, {"engine": "none"}],
)
def test_setting_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        InferenceSettings(**wrong)  # type: ignore[arg-type]


def test_device_that_is_not_there_refuses_to_start_and_says_so(tmp_path: Path) -> None:
    environment = {
        "INFERENCE_DEVICE": "cuda:99",
        "INFERENCE_STATE_DIR": str(tmp_path),
        "PYTHONPATH": ":".join(filter(None, sys.path)),
    }
    process = subprocess.run(
        [sys.executable, "-m", "inference_svc.main"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 1
    assert "cannot start: device 'cuda:99' is not there" in process.stderr
    assert "Traceback" not in process.stderr


def test_state_folder_that_cannot_be_written_refuses_to_start_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    process = subprocess.run(
        [sys.executable, "-m", "inference_svc.main"],
        env={
            "INFERENCE_STATE_DIR": str(tmp_path / "file" / "state"),
            "PYTHONPATH": ":".join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == 1
    assert str(tmp_path / "file") in process.stderr
    assert "Traceback" not in process.stderr
