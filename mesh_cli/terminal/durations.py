"""Reads durations as people write them: `50ms`, `20s`, `2m`, `1h`."""

import re
from collections.abc import Sequence

from mesh_cli.errors import BadInput

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([a-z]*)")


def seconds(text: str, option: str, units: Sequence[str] = ("ms", "s", "m")) -> float:
    """Seconds of the duration in `text`. A number without a unit needs "" among the units.

    Raises BadInput, which names the option.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None or match[2] not in units:
        *first, last = filter(None, units)
        raise BadInput(
            f"{option} is {text!r}; write a number with {', '.join(first)} or {last}, "
            "for example 20s"
        )
    return float(match[1]) * _SECONDS[match[2]]
