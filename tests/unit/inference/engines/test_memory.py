"""Large blocks of memory go back to the system when they are freed."""

import subprocess
import sys

CHILD = """
import ctypes
from pathlib import Path

from inference_svc.engines.memory import return_large_blocks

def anonymous_mib():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]

def fill(mib):
    block = libc.malloc(mib << 20)
    ctypes.memset(block, 1, mib << 20)
    return block

return_large_blocks()
libc.free(fill(24))  # without a fixed limit, glibc now keeps blocks of this size
blocks = [fill(8) for _ in range(8)]
before = anonymous_mib()
for block in blocks[:-1]:  # the last one would hold the top of the heap
    libc.free(block)
print(before - anonymous_mib() > 50)
"""


def test_freed_blocks_leave_no_gaps_in_the_heap() -> None:
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"
