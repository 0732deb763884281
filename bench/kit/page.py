"""Writes the table of docs/benchmarks.md from bench/results.json: `python -m bench.kit.page`

Every benchmark that keeps its results does so as well. A row is shown when its latest run was made
on a clean commit and has that figure.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.kit.page_rows import ROWS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- table:begin -->", "<!-- table:end -->"
COLUMNS = ("What", "Measured", "Wanted", "Met", "By", "Commit", "Processor")


def table(sections: Mapping[str, Any]) -> str:
    """The table in Markdown, from the content of results.json."""
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for row in ROWS:
        cells = row.line(sections[row.bench]) if row.bench in sections else None
        if cells is not None:
            lines.append(tuple(cells))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def with_table(page: str, new: str) -> str:
    """The page with `new` between its two marks. Raises ValueError when a mark is missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} needs the lines {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{new}{END}{after}"


def write(sections: Mapping[str, Any]) -> None:
    """Put the table of these sections in the place of the old one."""
    PAGE.write_text(with_table(PAGE.read_text(), table(sections)))


if __name__ == "__main__":
    write(json.loads((ROOT / "bench" / "results.json").read_text()))
