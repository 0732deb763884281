"""Features of the processor."""

import os
from pathlib import Path

CPUINFO = Path("/proc/cpuinfo")
# The first two are of Intel and AMD, the last of Arm.
_BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}


def has_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether the processor multiplies bf16 matrices in hardware."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            return not _BF16_FLAGS.isdisjoint(value.split())
    return False


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def describe_cpu(number_format: str, threads: int) -> str:
    """The device in words, for example "cpu (bf16, 1 thread)"."""
    plural = "" if threads == 1 else "s"
    return f"cpu ({number_format}, {threads} thread{plural})"
