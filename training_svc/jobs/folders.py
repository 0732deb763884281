"""The folders of the jobs: each attempt has one, which is removed when nothing needs it."""

import fcntl
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import IO

from service_kit.errors import Unavailable

LOCK_FILE = "lock"


class JobFolders:
    """The folders below `state_dir/jobs`."""

    def __init__(self, state_dir: Path, keep_failed: int) -> None:
        self._state_dir = state_dir
        self._root = state_dir / "jobs"
        self._keep_failed = keep_failed
        self._lock: IO[str] | None = None

    def lock(self) -> None:
        """Lock the state folder until `unlock`, or until this process ends.

        Raises Unavailable while another service has the lock, OSError for an unwritable folder.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        file = (self._state_dir / LOCK_FILE).open("w")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise Unavailable(f"another training service works in {self._state_dir}") from error
        self._lock = file

    def unlock(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def make(self, name: str) -> Path:
        """Return the folder of an attempt, with the files of an interrupted process, if any."""
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove(self, name: str) -> None:
        """Remove the folder of an attempt."""
        shutil.rmtree(self._root / name, ignore_errors=True)

    def lighten(self, name: str) -> None:
        """Remove the subfolders of a failed attempt, which hold its large files."""
        for path in (self._root / name).glob("*/"):
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self, in_use: Collection[str]) -> None:
        """Remove every folder that is not in use, except the newest `keep_failed` of them."""
        idle = [path for path in self._root.iterdir() if path.name not in in_use]
        idle.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in idle[self._keep_failed :]:
            shutil.rmtree(path, ignore_errors=True)
