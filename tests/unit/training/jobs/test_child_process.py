"""What the service says about its child processes."""

from pathlib import Path

import psutil
import pytest

from training_svc.jobs.child_process import ChildEnd, PythonChildLauncher, is_hub_id
from training_svc.jobs.job import Job
from training_svc.settings import TrainingSettings


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


async def test_child_gets_the_urls_that_it_needs_and_not_the_webhook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SLACK_URL", "TRAINING_SLACK_URL_FILE"):
        monkeypatch.setenv(name, "https://hooks/secret")
    settings = TrainingSettings(database_url="postgresql://127.0.0.1:1/none", mlflow_url="http://m")
    launcher = PythonChildLauncher(settings)
    child = await launcher.launch(Job("job-1", "r1", "reviews"), tmp_path)
    children = psutil.Process().children()
    [process] = [each for each in children if "training_svc.child.main" in each.cmdline()]
    environment = process.environ()
    child.kill()
    assert (await child.wait()).returncode == -9
    assert [name for name in environment if "SLACK" in name] == []
    assert environment["TRAINING_DATABASE_URL"] == "postgresql://127.0.0.1:1/none"
    assert environment["TRAINING_MLFLOW_URL"] == "http://m"
