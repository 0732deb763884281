"""The folders of the jobs: one an attempt, removed when it is of no more use."""

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
        """Make sure that nobody else works here, for as long as this process lives.

        Raises Unavailable while another service does, OSError when the folder is not writable.
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
        """Let somebody else work here."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def make(self, name: str) -> Path:
        """The folder of an attempt, with what an interrupted process left in it."""
        folder = self._root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove(self, name: str) -> None:
        """Remove the folder of an attempt."""
        shutil.rmtree(self._root / name, ignore_errors=True)

    def lighten(self, name: str) -> None:
        """Keep the small files of a failed attempt for a look; no later attempt needs the rest."""
        for path in (self._root / name).glob("*/"):
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self, in_use: Collection[str]) -> None:
        """Remove every folder that is not in use, but for the newest of failed attempts."""
        idle = [path for path in self._root.iterdir() if path.name not in in_use]
        idle.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in idle[self._keep_failed :]:
            shutil.rmtree(path, ignore_errors=True)
