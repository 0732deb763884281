"""The folders of jobs, and the lock of the state folder."""

from pathlib import Path

import pytest

from service_kit.errors import Unavailable
from training_svc.jobs.folders import JobFolders


def test_state_folder_takes_one_service_at_a_time(tmp_path: Path) -> None:
    first, second = JobFolders(tmp_path, 0), JobFolders(tmp_path, 0)
    first.lock()
    with pytest.raises(Unavailable, match="another training service works in"):
        second.lock()
    first.unlock()
    second.lock()
    second.unlock()


def test_folder_of_a_failed_attempt_keeps_neither_its_rows_nor_its_large_files(
    tmp_path: Path,
) -> None:
    folders = JobFolders(tmp_path, 1)
    folder = folders.make("job-1-1")
    (folder / "model").mkdir()
    for name in ("job.json", "rows.jsonl", "rows.jsonl.partial", "model/weights"):
        (folder / name).touch()
    folders.lighten("job-1-1")
    assert [path.name for path in folder.iterdir()] == ["job.json"]


def test_service_has_the_same_name_after_a_restart_and_no_other_service_has_it(
    tmp_path: Path,
) -> None:
    first = JobFolders(tmp_path, 0).worker()
    assert JobFolders(tmp_path, 0).worker() == first
    other = tmp_path / "other"
    other.mkdir()
    assert JobFolders(other, 0).worker() != first
