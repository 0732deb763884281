"""Durations as people write them."""

import pytest

from mesh_cli.errors import BadInput
from mesh_cli.terminal.durations import seconds

UNITS = ("", "s", "m", "h")


@pytest.mark.parametrize(
    ("text", "expected"), [("30", 30), ("30s", 30), ("1.5m", 90), ("1h", 3600)]
)
def test_durations_are_read_as_seconds(text: str, expected: float) -> None:
    assert seconds(text, "--every", UNITS) == expected


@pytest.mark.parametrize("text", ["soon", "50ms", "-1s", ""])
def test_other_texts_are_refused_with_the_option_and_its_units(text: str) -> None:
    with pytest.raises(BadInput, match=r"--every .* with s, m or h"):
        seconds(text, "--every", UNITS)
