"""What the service says about its child processes."""

from pathlib import Path

from training_svc.jobs.child_process import ChildEnd, is_hub_id


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
