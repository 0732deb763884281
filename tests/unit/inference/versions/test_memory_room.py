"""A version that does not fit into memory is refused, with what it needs and what there is."""

from pathlib import Path

import pytest

from inference_svc.engines.base import MemoryNeed
from inference_svc.versions.memory_room import MemoryRoom, Room, tightest
from service_kit.errors import FailedPrecondition

MIB = 1 << 20
NEED = MemoryNeed(60 * MIB, 40 * MIB)


def room(free_mib: int) -> MemoryRoom:
    return MemoryRoom(find=lambda limit: Room(free_mib * MIB, 1024 * MIB, "this container"))


def test_what_fits_is_taken() -> None:
    room(100).admit("version 1 of reviews", NEED, 0)
    room(160).admit("version 1 of reviews", NEED, 60 * MIB)


def test_the_refusal_says_what_is_needed_what_is_there_and_what_to_do() -> None:
    with pytest.raises(FailedPrecondition) as refused:
        room(159).admit("version 1 of reviews", NEED, 60 * MIB)
    assert str(refused.value) == (
        "version 1 of reviews needs about 100 MiB of memory, and 60 MiB more, so that a later "
        "version can be loaded beside it; 159 MiB are free of 1024 MiB, the limit of this "
        "container: raise it, or remove a model"
    )


def test_an_unknown_need_and_an_unknown_limit_refuse_nothing() -> None:
    room(0).admit("version 1 of reviews", MemoryNeed(0, 0), 60 * MIB)
    MemoryRoom(find=lambda limit: None).admit("version 1 of reviews", NEED, 0)


def write(folder: Path, **files: str) -> Path:
    for name, content in files.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    return folder


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A machine with 900 MiB free, where this process holds 100 MiB that are no pages of files."""
    return write(
        tmp_path / "proc",
        meminfo=f"MemTotal: {2000 * 1024} kB\nMemAvailable: {900 * 1024} kB\n",
        self__status=f"RssAnon: {90 * 1024} kB\nRssFile: 9999 kB\nRssShmem: {10 * 1024} kB\n",
        self__cgroup="4:memory:/mesh/replica\n0::/mesh/replica\n",
    )


def test_without_limits_the_machines_free_memory_counts(proc: Path, tmp_path: Path) -> None:
    assert tightest(0, proc, tmp_path) == Room(900 * MIB, 2000 * MIB, "this machine")


def test_the_setting_counts_what_this_process_holds(proc: Path, tmp_path: Path) -> None:
    whose = "INFERENCE_MEMORY_LIMIT_MIB"
    assert tightest(512 * MIB, proc, tmp_path) == Room(412 * MIB, 512 * MIB, whose)


@pytest.mark.parametrize("folder", ["mesh", "mesh/replica", ""])
def test_a_container_of_cgroups_2_is_found_here_and_above(
    proc: Path, tmp_path: Path, folder: str
) -> None:
    (tmp_path / "mesh" / "replica").mkdir(parents=True)
    write(
        tmp_path / folder,
        **{
            "memory.max": str(1024 * MIB),
            "memory.current": str(800 * MIB),
            "memory.stat": f"anon 1\nfile {350 * MIB}\ninactive_file {200 * MIB}\n"
            f"active_file {100 * MIB}\n",
        },
    )
    assert tightest(0, proc, tmp_path) == Room(524 * MIB, 1024 * MIB, "this container")


def test_a_container_of_cgroups_1_whose_path_is_the_hosts(proc: Path, tmp_path: Path) -> None:
    write(
        tmp_path / "memory",
        **{
            "memory.limit_in_bytes": str(1024 * MIB),
            "memory.usage_in_bytes": str(800 * MIB),
            "memory.stat": f"total_inactive_file {200 * MIB}\ntotal_active_file {100 * MIB}\n",
        },
    )
    assert tightest(0, proc, tmp_path) == Room(524 * MIB, 1024 * MIB, "this container")


def test_cgroups_without_a_limit_say_nothing(proc: Path, tmp_path: Path) -> None:
    write(
        tmp_path / "memory",
        **{
            "memory.limit_in_bytes": "9223372036854771712",
            "memory.usage_in_bytes": "1",
        },
    )
    write(tmp_path / "mesh" / "replica", **{"memory.max": "max", "memory.current": "1"})
    found = tightest(0, proc, tmp_path)
    assert found is not None
    assert found.whose == "this machine"


def test_outside_of_linux_nothing_is_known(tmp_path: Path) -> None:
    assert tightest(0, tmp_path / "none", tmp_path / "none") is None
