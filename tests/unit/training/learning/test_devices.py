"""The cores and the precision that a training uses."""

import os
from pathlib import Path

import pytest

from training_svc.learning import devices


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the kernel's files, all of them missing; the affinity is four cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    for name, file in (
        ("CGROUP_V2_QUOTA", "cpu.max"),
        ("CGROUP_V1_QUOTA", "quota"),
        ("CGROUP_V1_PERIOD", "period"),
        ("CPU_INFO", "cpuinfo"),
    ):
        monkeypatch.setattr(devices, name, tmp_path / file)
    return tmp_path


@pytest.mark.parametrize(
    ("quota", "cores"), [("max", 4), ("250000", 2), ("50000", 1), ("900000", 4)]
)
def test_cores_follow_the_quota_up_to_the_affinity(files: Path, quota: str, cores: int) -> None:
    (files / "cpu.max").write_text(f"{quota} 100000\n")
    assert devices.usable_cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 4), ("250000", 2)])
def test_cores_follow_the_quota_of_the_older_cgroups(files: Path, quota: str, cores: int) -> None:
    (files / "quota").write_text(f"{quota}\n")
    (files / "period").write_text("100000\n")
    assert devices.usable_cores() == cores


def test_without_any_quota_every_core_of_the_affinity_counts(files: Path) -> None:
    assert devices.usable_cores() == 4


@pytest.mark.parametrize(
    ("flags", "bf16"), [("fpu avx512_bf16 sse", True), ("fpu amx_bf16", True), ("fpu avx2", False)]
)
def test_bf16_is_used_where_the_cpu_multiplies_it(files: Path, flags: str, bf16: bool) -> None:
    (files / "cpuinfo").write_text(f"processor: 0\nflags\t\t: {flags}\n")
    assert devices.cpu_has_bf16() is bf16
