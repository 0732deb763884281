"""How much memory this process may still take, and the refusal of a version that needs more."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from inference_svc.engines.base import MemoryNeed
from service_kit.errors import FailedPrecondition

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")
_MIB = 1 << 20
# cgroups of version 1 write a number near 2^63 when there is no limit.
_NO_LIMIT = 1 << 60


class Room(NamedTuple):
    """Memory that is free, of what, in bytes."""

    free: int
    limit: int
    whose: str
    """Who sets the limit, in words."""


class MemoryRoom:
    """Refuses versions that do not fit.

    Memory that the system can take back, pages of files, is free here.
    """

    def __init__(
        self, limit_mib: int = 0, find: Callable[[int], Room | None] | None = None
    ) -> None:
        """`limit_mib` is the most that the process may take, 0: what the machine gives it."""
        self._limit = limit_mib * _MIB
        self._find = find or tightest

    def admit(self, what: str, need: MemoryNeed, spare: int) -> None:
        """Raise FailedPrecondition unless there is room for the version `what`.

        `spare` is how much has to stay free besides, in bytes.
        """
        if need.held + need.working == 0:
            return
        room = self._find(self._limit)
        if room is None or need.held + need.working + spare <= room.free:
            return
        more = f", and {spare // _MIB} MiB more, so that a later version" if spare else ""
        more += " can be loaded beside it" if spare else ""
        raise FailedPrecondition(
            f"{what} needs about {(need.held + need.working) // _MIB} MiB of memory{more}; "
            f"{max(room.free, 0) // _MIB} MiB are free of {room.limit // _MIB} MiB, the limit of "
            f"{room.whose}: raise it, or remove a model"
        )


def tightest(limit: int, proc: Path = PROC, cgroups: Path = CGROUPS) -> Room | None:
    """The least room that any limit leaves; None when nothing can be read, as outside of Linux."""
    rooms = [*_setting(limit, proc), *_cgroup_rooms(proc, cgroups), *_machine(proc)]
    return min(rooms, default=None)


def _setting(limit: int, proc: Path) -> list[Room]:
    if not limit:
        return []
    status = _fields(proc / "self" / "status")
    used = sum(status.get(name, 0) for name in ("RssAnon", "RssShmem")) * 1024
    return [Room(limit - used, limit, "INFERENCE_MEMORY_LIMIT_MIB")]


def _machine(proc: Path) -> list[Room]:
    memory = _fields(proc / "meminfo")
    if "MemAvailable" not in memory:
        return []
    return [Room(memory["MemAvailable"] * 1024, memory["MemTotal"] * 1024, "this machine")]


def _cgroup_rooms(proc: Path, cgroups: Path) -> list[Room]:
    """The room in each cgroup of this process that has a limit, its parents included."""
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        return []
    rooms = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, read = cgroups, _version_2
        elif "memory" in controllers.split(","):
            root, read = cgroups / "memory", _version_1
        else:
            continue
        group = root / path.lstrip("/")
        # In a container the path may be the host's; then the container's own group is the root.
        folders = [root] if not group.is_dir() else [group, *group.parents]
        found = (read(folder) for folder in folders if folder.is_relative_to(root))
        rooms += [room for room in found if room is not None]
    return rooms


def _version_2(folder: Path) -> Room | None:
    limit, used = _number(folder / "memory.max"), _number(folder / "memory.current")
    if limit is None or used is None:
        return None
    return _without_files(limit, used, _version_2_files(folder))


def _version_2_files(folder: Path) -> int:
    stat = _fields(folder / "memory.stat")
    # What `file` counts includes shared memory and temporary file systems, which stay in memory.
    return stat.get("inactive_file", 0) + stat.get("active_file", 0)


def _version_1(folder: Path) -> Room | None:
    limit = _number(folder / "memory.limit_in_bytes")
    used = _number(folder / "memory.usage_in_bytes")
    if limit is None or used is None:
        return None
    stat = _fields(folder / "memory.stat")
    files = stat.get("total_inactive_file", 0) + stat.get("total_active_file", 0)
    return _without_files(limit, used, files)


def _without_files(limit: int, used: int, files: int) -> Room | None:
    if limit >= _NO_LIMIT:
        return None
    return Room(limit - (used - files), limit, "this container")


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None  # no such group, or "max"


def _fields(file: Path) -> dict[str, int]:
    """The lines `name value …` of a file of the kernel, names without their colon."""
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return {}
    parts = [line.split() for line in lines]
    return {
        part[0].rstrip(":"): int(part[1]) for part in parts if len(part) > 1 and part[1].isdigit()
    }
