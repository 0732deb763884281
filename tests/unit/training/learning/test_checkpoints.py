"""An interrupted training resumes from its checkpoint, and from no other."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.unit.training.learning.tiny_training import Interrupted, Run, stop_at
from training_svc.learning.finetune import FineTuneParams
from training_svc.learning.model_loading import load_trained


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
    "file",
    ["model.safetensors", "optimizer.pt", "trainer_state.json", "scheduler.pt", "rng_state.pth"],
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


@pytest.mark.usefixtures("report_every_step")
def test_only_the_newest_checkpoint_is_kept(run: Run, tmp_path: Path) -> None:
    result = run(checkpoint_every_s=0.0)
    kept = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert kept == [f"checkpoint-{result.total_steps - 1}"]  # none is made after the last step
