"""The folders of the jobs: each attempt has one, which is removed when nothing needs it."""

import fcntl
import shutil
import uuid
from collections.abc import Collection
from pathlib import Path
from typing import IO

from service_kit.errors import Unavailable
from training_svc.learning.whole_files import write_whole

LOCK_FILE = "lock"
WORKER_FILE = "worker"
ROWS_FILE = "rows.jsonl"  # of an attempt; its child process writes it


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

    def worker(self) -> str:
        """Return the name of the service that works in this folder, the same after a restart.

        Under it a service finds the jobs again that it was at. Call it with the lock held.
        """
        file = self._state_dir / WORKER_FILE
        if not file.exists():
            write_whole(file, uuid.uuid4().hex)
        return file.read_text().strip()

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
        """Remove the subfolders of a failed attempt, which hold its large files, and its rows, so
        that rows which are deleted from their table leave no copy here."""
        for path in (self._root / name).glob("*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(ROWS_FILE):
                path.unlink(missing_ok=True)

    def sweep(self, in_use: Collection[str]) -> None:
        """Remove every folder that is not in use, except the newest `keep_failed` of them."""
        idle = [path for path in self._root.iterdir() if path.name not in in_use]
        idle.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in idle[self._keep_failed :]:
            shutil.rmtree(path, ignore_errors=True)
