"""Giving memory back to the system."""

import ctypes

_M_MMAP_THRESHOLD = -3  # of glibc's mallopt
# Above this size glibc maps a block alone, and freeing it gives it back. Left to itself glibc
# raises the limit to 32 MiB, and then the gaps that graphs leave in the heap stay: with five models
# that answer by turns they took 30 MiB a model.
_LARGE_BLOCK = 2 << 20


def return_large_blocks() -> None:
    """Have large blocks go back to the system when they are freed, in all of this process."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)


def trim_heap() -> None:
    """Return freed weights to the system; glibc would keep them for the next model."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
