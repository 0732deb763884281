"""Folders and files stay small, and no module hides one of the standard library."""

import sys
from collections import Counter

from tests.unit.structure.source_files import ROOT, code_files, files, is_generated, modules

MOST_FILES = 16
MOST_LINES = 300


def test_no_folder_of_code_holds_more_than_16_files() -> None:
    of_code = {path.parent for path in code_files()}
    counts = Counter(
        path.parent for path in files() if path.parent in of_code and not is_generated(path)
    )
    too_full = [f"{folder}: {count}" for folder, count in counts.items() if count > MOST_FILES]
    assert not too_full, "\n".join(too_full)


def test_no_file_of_code_has_more_than_300_lines() -> None:
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in code_files()}
    too_long = [f"{path}: {lines}" for path, lines in lengths.items() if lines > MOST_LINES]
    assert not too_long, "\n".join(too_long)


def test_no_module_has_the_name_of_one_in_the_standard_library() -> None:
    hiding = [
        str(module.path)
        for module in modules().values()
        if module.name.rpartition(".")[2] in sys.stdlib_module_names
    ]
    assert not hiding, "\n".join(hiding)
