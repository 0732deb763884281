"""Invariants: tests assert them, and a table at the end shows each scenario's invariants."""

from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from rich.console import Console
from rich.table import Table

Hold: TypeAlias = Callable[[str, bool, str], None]
_PROPERTY = "invariant"


@pytest.fixture
def hold(record_property: Callable[[str, object], None]) -> Hold:
    """Return a function that asserts an invariant: its name, whether it holds, what was seen."""

    def assert_holds(invariant: str, holds: bool, seen: str) -> None:
        record_property(_PROPERTY, [invariant, holds, seen])
        assert holds, f"{invariant}: {seen}"

    return assert_holds


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print which invariants held, and what the tests saw."""
    table = Table("scenario", "invariant", "", "seen", title="What held under faults")
    reports = [
        report
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
    ]
    for report in sorted(reports, key=lambda report: str(report.nodeid)):
        scenario = report.nodeid.rpartition("/")[2].removeprefix("test_").replace(".py::test", "")
        for name, value in report.user_properties:
            if name == _PROPERTY and report.when == "call":
                invariant, holds, seen = value
                table.add_row(scenario, invariant, "holds" if holds else "BROKEN", seen)
                scenario = ""
    if table.row_count:
        terminalreporter.ensure_newline()
        Console().print(table)
