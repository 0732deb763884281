"""Writes files that are whole or absent, even if the process is killed or the machine stops."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# Free bytes below which a failed write is blamed on a full disk.
FULL_BYTES = 1 << 20


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of `path` in one step when the block ends.

    It is on the disk then. When the block raises, `path` stays as it was.
    """
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        yield file
    sync(partial)
    partial.replace(path)
    sync(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Replace the file's content in one step; it is on the disk when this returns."""
    with whole_file(path) as file:
        file.write(text.encode())


def sync(path: Path) -> None:
    """Write a file, or a folder with everything below it, from memory to the disk."""
    if path.is_dir():
        for child in path.iterdir():
            sync(child)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_full(folder: Path) -> bool:
    """Whether the disk of a folder has no room left."""
    return shutil.disk_usage(folder).free < FULL_BYTES
