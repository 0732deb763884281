"""Puts an identity into its folder, so that no reader meets a certificate with another's key."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from service_kit.files.writing import write_new
from service_kit.identities.identity import AUTHORITIES_FILE, CERTIFICATE_FILE, KEY_FILE, Pems

# The three files are links through this one, so that one rename replaces all three; Envoy and
# Kubernetes know this way.
_DATA = "..data"


# Gives a path to the user who is to read it. Raises OSError.
HandOver = Callable[[Path], None]


def keep(path: Path) -> None:
    """Leave a path with the user who has made it."""


def write_identity(folder: Path, pems: Pems, hand_over: HandOver = keep) -> None:
    """Replace the identity of a folder, which is made when it is missing.

    Only its owner may read it: each new path is handed over before its readers learn of it. The set
    before it is kept for readers who have just begun to read.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    hand_over(folder)
    data = folder / _DATA
    before = Path(os.readlink(data)).name if data.is_symlink() else ""
    new = Path(tempfile.mkdtemp(prefix="..", dir=folder))
    for name, content in (
        (CERTIFICATE_FILE, pems.certificate),
        (KEY_FILE, pems.key),
        (AUTHORITIES_FILE, pems.authorities),
    ):
        write_new(new / name, content)
        hand_over(new / name)
        if not (folder / name).is_symlink():
            _link(folder / name, f"{_DATA}/{name}")
    hand_over(new)
    _link(data, new.name)
    for other in folder.glob("..*"):
        if other.is_dir() and not other.is_symlink() and other.name not in (before, new.name):
            shutil.rmtree(other)


def _link(path: Path, target: str) -> None:
    """Let a path be a link, in one step, whatever it was before."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(path)
