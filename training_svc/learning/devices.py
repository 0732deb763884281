"""Chooses the device, the precision and the number of threads for training and evaluating."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

Precision = Literal["fp32", "bf16", "fp16"]

# Linux's names of the CPU features that multiply bf16; without both, bf16 is slower than fp32.
BF16_CPU_FLAGS = frozenset({"amx_bf16", "avx512_bf16"})

CGROUP_V2_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")
CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Device:
    """The device of one run; `threads` is the number of torch's CPU threads."""

    kind: Literal["cpu", "cuda"]
    precision: Precision
    threads: int
    name: str

    def describe(self, precision: Precision | None = None) -> str:
        """For people: "cpu (bf16, 2 threads)" or "cuda:0 NVIDIA H200"."""
        if self.kind == "cuda":
            return f"cuda:0 {self.name}"
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return f"cpu ({precision or self.precision}, {threads})"


def choose_device() -> Device:
    """The first CUDA device if there is one, else the CPU with every usable core."""
    threads = usable_cores()
    if torch.cuda.is_available():
        precision: Precision = "bf16" if torch.cuda.is_bf16_supported() else "fp16"
        return Device("cuda", precision, threads, torch.cuda.get_device_name(0))
    return Device("cpu", "bf16" if cpu_has_bf16() else "fp32", threads, "cpu")


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 natively (AMX-BF16 or AVX512-BF16)."""
    return any(
        BF16_CPU_FLAGS & set(line.split())
        for line in _read(CPU_INFO).splitlines()
        if line.startswith("flags")
    )


def usable_cores() -> int:
    """Cores of this process's affinity mask, or whole cores of the cgroup's quota if fewer."""
    cores = len(os.sched_getaffinity(0))
    quota = _cgroup_cores()
    return cores if quota is None else max(1, min(cores, int(quota)))


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run the block with `threads` torch threads, then restore the earlier number."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cgroup_cores() -> float | None:
    """The cgroup's CPU quota in cores; None when there is no limit."""
    quota, _, period = _read(CGROUP_V2_QUOTA).strip().partition(" ")
    if not quota:
        quota, period = _read(CGROUP_V1_QUOTA).strip(), _read(CGROUP_V1_PERIOD).strip()
    # "max" (v2), "-1" (v1) and a missing file all mean: no limit.
    if not (quota.isdigit() and period.isdigit()):
        return None
    return int(quota) / int(period)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
