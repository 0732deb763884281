"""Reads a file again only when it has changed. Imports nothing but the standard library."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")

# When a file was changed, how large it is, and which file it is: another one when it was replaced.
Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Return what differs after a file was changed or replaced. Raises OSError."""
    found = path.stat()
    return found.st_mtime_ns, found.st_size, found.st_ino


class WatchedFile(Generic[T]):
    """What a text file holds, as it is now. While it cannot be read, what it held before goes on
    holding."""

    def __init__(
        self,
        path: Path,
        parse: Callable[[str], T],
        content: T,
        unusable: tuple[type[Exception], ...] = (),
    ) -> None:
        """`content` holds until the file is read for the first time. A text for which `parse`
        raises one of `unusable` counts as one that cannot be read."""
        self._path = path
        self._parse = parse
        self._content = content
        self._failures: tuple[type[Exception], ...] = (OSError, *unusable)
        self._stamp: Stamp | None = None

    def read(self) -> T:
        """Return the content; the same object as before while the file has not changed."""
        try:
            now = stamp(self._path)
            if now != self._stamp:
                self._content, self._stamp = self._parse(self._path.read_text()), now
        except self._failures:
            return self._content
        return self._content
