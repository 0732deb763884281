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
