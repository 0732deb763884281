"""Checkpoints that survive a kill at any moment.

The Trainer writes into a staging folder beside the published checkpoints; a checkpoint is renamed
into place only once it is whole, and only then is its predecessor removed.
"""

import hashlib
import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from safetensors import SafetensorError, safe_open

from training_svc.learning.whole_files import sync

STAGING = "staging"
FINGERPRINT = "fingerprint.txt"
_NAME = re.compile(r"checkpoint-(\d+)")


def fingerprint(*settings: object, rows: Iterable[object]) -> str:
    """Hash of one training's settings and data, so that no other's checkpoint is resumed."""
    digest = hashlib.sha256()
    for part in chain(settings, rows):
        digest.update(repr(part).encode())
        digest.update(b"\0")
    return digest.hexdigest()


class CheckpointStore:
    """The checkpoints of one training, at most one of them published."""

    def __init__(self, folder: Path, job: str) -> None:
        self._folder = folder
        self._job = job
        self.staging = folder / STAGING

    def prepare(self) -> Path | None:
        """Remove half-written files of a killed run; return the checkpoint to resume, or None."""
        shutil.rmtree(self.staging, ignore_errors=True)
        self.staging.mkdir(parents=True)
        usable = [path for path in self._published() if self._is_usable(path)]
        newest = usable[-1] if usable else None
        self._keep_only(newest)
        return newest

    def publish(self, step: int) -> None:
        """Move the staged checkpoint of that step into place, then drop the older ones."""
        staged = self.staging / f"checkpoint-{step}"
        if not staged.is_dir():
            return
        (staged / FINGERPRINT).write_text(self._job)
        # Without this, a machine that stops now could keep the renamed folder but not its data.
        sync(staged)
        target = self._folder / staged.name
        shutil.rmtree(target, ignore_errors=True)
        os.replace(staged, target)
        self._keep_only(target)

    def close(self) -> None:
        """Remove the staging folder; the published checkpoint stays for the caller to remove."""
        shutil.rmtree(self.staging, ignore_errors=True)

    def _published(self) -> list[Path]:
        """The published checkpoints, oldest first."""
        return sorted((p for p in self._folder.iterdir() if _NAME.fullmatch(p.name)), key=_step)

    def _keep_only(self, kept: Path | None) -> None:
        for path in self._published():
            if path != kept:
                shutil.rmtree(path, ignore_errors=True)

    def _is_usable(self, path: Path) -> bool:
        """Whether the checkpoint is whole and of this training. Reads headers, not tensors."""
        try:
            if (path / FINGERPRINT).read_text() != self._job:
                return False
            with safe_open(path / "model.safetensors", framework="pt") as weights:
                weights.keys()
            state = json.loads((path / "trainer_state.json").read_text())
        except (OSError, ValueError, SafetensorError):
            return False
        return state.get("global_step") == _step(path) and _all_zipped(
            path, ["optimizer.pt", "scheduler.pt", "rng_state.pth"]
        )


def _all_zipped(folder: Path, names: Sequence[str]) -> bool:
    """Whether all are whole: torch.save writes zip files, whose table of contents comes last."""
    return all(zipfile.is_zipfile(folder / name) for name in names)


def _step(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    assert match is not None
    return int(match.group(1))
