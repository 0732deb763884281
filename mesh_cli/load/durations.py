"""Lengths of time as people write them: `20s`, `50ms`, `2m`."""

import re

from mesh_cli.errors import BadInput

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")


def seconds(text: str, option: str) -> float:
    """`text` in seconds. Raises BadInput, naming the option."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{option} is {text!r}; write a number with ms, s or m, for example 20s")
    return float(found[1]) * _UNITS[found[2]]
