"""Documents fit into an editor and a diff, and the places that they name exist."""

import re
from collections.abc import Iterator

import pytest

from tests.unit.structure.source_files import ROOT

MOST_COLUMNS = 100
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md"),
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")),
)
# Folders in which a document names a place as `folder/…`.
OF_CODE = (
    *("protos", "service_kit", "inference_svc", "training_svc", "trigger_svc", "envoy"),
    *("dags", "mesh_cli", "bench", "tests", "requirements", "containers"),
)
MARKERS = {"-", "*", ">", "#", "##", "###"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_no_line_has_more_than_100_columns(document: str) -> None:
    too_long = [
        f"{document}:{number}: {len(line)} columns"
        for number, line in prose((ROOT / document).read_text())
        if len(line) > MOST_COLUMNS and can_be_broken(line)
    ]
    assert not too_long, "\n".join(too_long)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_place_that_is_named_exists(document: str) -> None:
    places = re.findall(rf"`((?:{'|'.join(OF_CODE)})/[\w/.]*)`", (ROOT / document).read_text())
    missing = [place for place in places if not (ROOT / place).exists()]
    assert not missing, "\n".join(missing)


def prose(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines outside of blocks of code and tables."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        start = line.lstrip()
        if start.startswith(("```", "~~~")):
            inside = not inside
        elif not inside and not start.startswith("|"):
            yield number, line


def can_be_broken(line: str) -> bool:
    """There are two words to break between; a list's marker is none."""
    return len([word for word in line.split() if word not in MARKERS]) > 1
