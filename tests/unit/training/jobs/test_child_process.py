"""What the service says about its child processes."""

from pathlib import Path

import psutil
import pytest

from service_kit.errors import InvalidArgument
from training_svc.jobs.child_process import ChildEnd, PythonChildLauncher
from training_svc.jobs.job import Job, Params
from training_svc.settings import TrainingSettings


def test_signal_is_named_and_the_last_line_repeated() -> None:
    assert str(ChildEnd(-11, "loading weights")) == (
        "the training process was killed by signal 11 (SIGSEGV); it last said: loading weights"
    )


def test_exit_status_is_told() -> None:
    assert str(ChildEnd(3)) == "the training process ended with exit status 3"


@pytest.mark.parametrize(
    ("asked", "tokens"), [("", []), ("ours", []), ("org/model", ["HF_TOKEN", "HUGGINGFACE_TOKEN"])]
)
async def test_child_gets_what_it_needs_and_no_other_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: str, tokens: list[str]
) -> None:
    for name in ("SLACK_URL", "TRAINING_SLACK_URL_FILE", "HF_TOKEN", "HUGGINGFACE_TOKEN"):
        monkeypatch.setenv(name, "secret")
    settings = TrainingSettings(
        database_url="postgresql://127.0.0.1:1/none",
        mlflow_url="http://m",
        base_models=f"ours={tmp_path},org/model@{'a' * 40}",
    )
    launcher = PythonChildLauncher(settings)
    child = await launcher.launch(
        Job("job-1", "r1", "reviews", params=Params(base_model=asked)), tmp_path
    )
    children = psutil.Process().children()
    [process] = [each for each in children if "training_svc.child.main" in each.cmdline()]
    environment = process.environ()
    child.kill()
    assert (await child.wait()).returncode == -9
    assert sorted(name for name, value in environment.items() if value == "secret") == tokens
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["TRAINING_DATABASE_URL"] == "postgresql://127.0.0.1:1/none"
    assert environment["TRAINING_MLFLOW_URL"] == "http://m"


async def test_a_queued_job_cannot_start_from_a_model_that_is_not_listed_now(
    tmp_path: Path,
) -> None:
    job = Job("job-1", "r1", "reviews", params=Params(base_model=str(tmp_path)))
    with pytest.raises(InvalidArgument, match="TRAINING_BASE_MODELS"):
        await PythonChildLauncher(TrainingSettings()).launch(job, tmp_path)
