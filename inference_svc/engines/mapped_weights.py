"""A graph's weights as a mapped file, which the system reads when they are used."""

import mmap
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class MappedWeights:
    """The weights file of a graph, mapped into memory.

    The system reads a page when it is first used, and may drop it at any time, because it can read
    it again. A file that is removed meanwhile stays readable.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError, and ValueError for an empty file."""
        with path.open("rb") as file:
            # A private copy, as OpenVINO refuses memory that cannot be written; nobody writes, so
            # every page stays the file's.
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self.bytes: NDArray[np.uint8] = np.frombuffer(self._mapped, dtype=np.uint8)

    def holds(self, array: NDArray[np.float32]) -> bool:
        """Whether all of an array lies in this file."""
        begin, end = np.lib.array_utils.byte_bounds(self.bytes)
        low, high = np.lib.array_utils.byte_bounds(array)
        return begin <= low and high <= end

    def view(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The same numbers as an array which `holds` is true for, kept alive by this mapping."""
        begin = array.__array_interface__["data"][0] - self.bytes.__array_interface__["data"][0]
        part = self.bytes[begin : begin + array.nbytes]
        return part.view(np.float32).reshape(array.shape)

    def forget(self) -> None:
        """Give the pages back to the system. They are read again when they are used."""
        self._mapped.madvise(mmap.MADV_DONTNEED)
