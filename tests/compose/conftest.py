"""The containers that the tests share, and the table of figures at the end."""

import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.compose.stack import Stack

_figures: list[tuple[str, str]] = []


class Figures:
    """Collects the rows of the table that is printed at the end."""

    def add(self, name: str, value: str) -> None:
        """Add a row: what was measured, and its value in words."""
        _figures.append((name, value))


@pytest.fixture(scope="session")
def figures() -> Figures:
    return Figures()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Stack]:
    """All containers, built and healthy; afterwards they, their volumes and images are removed."""
    stack = Stack.in_folder(tmp_path_factory.mktemp("compose"))
    try:
        begin = time.monotonic()
        stack.init()
        stack.compose("build")
        built = time.monotonic()
        stack.mesh("up")
        figures.add("images built", f"{built - begin:.0f} s")
        figures.add("from up to all healthy", f"{time.monotonic() - built:.0f} s")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans")
        stack.remove_images()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    if not _figures:
        return
    table = Table("", "", title="The mesh in containers")
    for name, value in _figures:
        table.add_row(name, value)
    terminalreporter.ensure_newline()
    Console(width=shutil.get_terminal_size().columns).print(table)
