"""Each line of the threat model in docs/security.md is a test."""

import re

import pytest

from tests.unit.structure.source_files import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text()
TABLES = ("What a stolen token can do", "Who may do what")
_TEST = re.compile(r"`(\S+\.py)::(test_\w+)`")


def rows(heading: str) -> list[list[str]]:
    """Cells of the rows of the table below a heading, without the head of the table."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("heading", TABLES)
def test_the_last_cell_of_every_row_names_a_test_that_exists(heading: str) -> None:
    found = rows(heading)
    assert len(found) > 5
    for row in found:
        named = _TEST.fullmatch(row[-1])
        assert named is not None, f"the row {row[:2]} names no test"
        path = ROOT / "tests" / named[1]
        assert path.is_file(), f"{path} does not exist"
        assert re.search(rf"^ *(async )?def {named[2]}\(", path.read_text(), re.MULTILINE), row[-1]
