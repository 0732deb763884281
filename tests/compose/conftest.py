"""The containers that the tests share, and the table of figures at the end."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from tests.compose.stack import Stack

_figures: list[tuple[str, str]] = []


class Figures:
    """What was measured."""

    def add(self, what: str, value: str) -> None:
        _figures.append((what, value))


@pytest.fixture(scope="session")
def figures() -> Figures:
    return Figures()


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, figures: Figures) -> Iterator[Stack]:
    """All containers, built and healthy; nothing of them is left afterwards."""
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
    for what, value in _figures:
        table.add_row(what, value)
    terminalreporter.ensure_newline()
    Console(width=terminalreporter._tw.fullwidth).print(table)
